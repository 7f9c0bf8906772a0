"""How much memory this process has, and how much it may have."""

from __future__ import annotations

import os
from pathlib import Path

_STATM = Path("/proc/self/statm")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Of the control group, by version 2 and 1; without a limit a word, or a number beyond any machine."""
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
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _LIMITS:
        try:
            limits.append(int(path.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return int(min(limits) * SHARE) // processes
