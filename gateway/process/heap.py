"""Heap: what was made at the start stays for good, and Python need not look through it for garbage again and again."""

from __future__ import annotations

import asyncio
import ctypes
import gc

from gateway.process.memory import resident_bytes

BETWEEN_LOOKS = 20_000
"""Objects made and not freed. A request makes some hundreds, nearly all of which are freed without being looked for."""
EVERY = 10.0
"""Seconds between two looks at how much memory the process has."""
WORTH_IT = 64_000_000
"""Bytes by which it must have grown since the start before what is free is sought: that takes some milliseconds."""


def settle() -> None:
    """Take everything there is now for lasting; call it once, when a process is ready to serve."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(BETWEEN_LOOKS, 20, 20)


async def give_back() -> None:
    """Give the system what a busy time has left free, again and again: the C library may keep it for good."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    rest = resident_bytes()
    while trim is not None:
        await asyncio.sleep(EVERY)
        if resident_bytes() >= rest + WORTH_IT:
            trim(0)
