"""The clock by which expiry is judged."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

Now = Callable[[], Awaitable[float]]
"""Returns Unix seconds; what may be kept by it is kept, so that a moment too early does no harm."""


async def own_time() -> float:
    """Return what this machine's clock says."""
    return time.time()
