"""How much memory this process has, and how much it may have."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_STATM = Path("/proc/self/statm")
_GROUPS = Path("/proc/self/cgroup")
_LIMITS = Path("/sys/fs/cgroup")
_UNGROUPED = "0::/\n0:memory:/"
SHARE = 0.85
"""Of the memory that there is, what the processes of a gateway take between them unless told otherwise."""


def resident_bytes() -> int:
    """Return what of this process is in memory; 0 where the system does not tell by /proc."""
    try:
        return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def usual_limit(processes: int) -> int:
    """Return how many bytes each of so many processes may take: a share of the control group's, or the machine's."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        groups = _GROUPS.read_text()
    except OSError:
        groups = _UNGROUPED
    return int(min(machine, *group_limits(groups, _LIMITS)) * SHARE) // processes


def group_limits(groups: str, root: Path) -> Iterator[int]:
    """Yield the limits (bytes) of a process's control groups and of all around them, those of version 2 and 1.

    `groups` is its /proc/self/cgroup: `0::/system.slice/x.service` in version 2, `4:memory:/x` in version 1. `root` is
    where both are mounted; in a container that is the container's own group. Without a limit a file holds a word, or
    a number beyond any machine.
    """
    for line in groups.splitlines():
        _, controllers, own = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, file = (root / controllers, "memory.limit_in_bytes") if controllers else (root, "memory.max")
        group = top / own.lstrip("/")
        for each in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                yield int((each / file).read_text())
            if each == top:
                break
