"""Heap: tunes garbage collection and malloc. Startup objects are frozen, so the collector skips them."""

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
"""Bytes by which it must have grown since the start before what is free is sought without need."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT = 32 * 1024 * 1024
"""Free bytes at the end of the heap that stay: pages given back are cleared and mapped anew for what comes next."""
MAPPED = 4 * 1024 * 1024
"""Bytes of what is never taken from the heap. A piece of an answer is 256 KB, and there are thousands a second."""


def settle() -> None:
    """Treat all current objects as permanent; call it once, when the process is ready to serve."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, KEPT)
        mallopt(_M_MMAP_THRESHOLD, MAPPED)
    gc.collect()
    gc.freeze()
    gc.set_threshold(BETWEEN_LOOKS, 20, 20)


def give_back() -> None:
    """Give the system what is free: the C library may keep it for good. Each 100 MB of it take some 10 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


async def keep_giving_back() -> None:
    """Return free memory to the system after load peaks, until cancelled."""
    rest = resident_bytes()
    while True:
        await asyncio.sleep(EVERY)
        if resident_bytes() >= rest + WORTH_IT:
            give_back()
