"""`python -m tests.sim FIRST END`: a line of JSON for each seed, null or what was found. With `--tell SEED`, all that
happens in one. `jiffy sim` is for people."""

from __future__ import annotations

import json
import logging
import sys

from tests.sim.world import simulate

_LAST = 60


def main(first: int, end: int) -> None:
    logging.disable(logging.CRITICAL)
    for seed in range(first, end):
        print(json.dumps(_run(seed)), flush=True)


def _run(seed: int) -> dict[str, object] | None:
    what, trace = simulate(seed)
    return {"seed": seed, "what": what, "trace": "\n".join(trace[-_LAST:])} if what else None


def tell(seed: int) -> None:
    logging.disable(logging.CRITICAL)
    what, trace = simulate(seed)
    print(json.dumps({"what": what, "trace": "\n".join(trace)}))


if __name__ == "__main__":
    if sys.argv[1] == "--tell":
        tell(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]), int(sys.argv[2]))
