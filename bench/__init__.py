"""Benchmarks: one module per figure, each beside a peer or a limit in the same run. `jiffy bench NAME` runs one."""
