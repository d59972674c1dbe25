"""Calls are counted from what strace writes."""

from __future__ import annotations

from jiffy.image.tracing import count_calls

LINES = """\
10 execve("/usr/sbin/chroot", ["chroot"], 0x1) = 0
10 openat(AT_FDCWD, "/etc/ld.so.cache", O_RDONLY) = 3
10 chroot("/some/root") = 0
10 execve("/bin/true", ["true"], 0x1) = 0
10 access("/etc/ld.so.preload", R_OK) = -1 ENOENT (No such file or directory)
10 openat(AT_FDCWD, "/etc/a \\"quoted\\" name", O_RDONLY|O_CLOEXEC) = 3
11 openat(AT_FDCWD, "/lib/x", O_RDONLY) = 3
11 openat(AT_FDCWD, "/lib/x", O_RDONLY) = 4
11 openat(AT_FDCWD, "/nothing", O_RDONLY) = -1 ENOENT (No such file or directory)
11 newfstatat(AT_FDCWD, "/lib", {st_mode=S_IFDIR|0755, ...}, 0) = 0
11 unlink("/tmp/x") = 0
11 +++ exited with 0 +++
"""


def test_only_what_the_command_does_in_its_root_counts() -> None:
    trace = count_calls(LINES.splitlines(), 0)
    assert (trace.stats, trace.stats_missed, trace.opens, trace.opens_missed) == (2, 1, 4, 1)
    assert trace.opened == {'/etc/a \\"quoted\\" name', "/lib/x"}
