"""Today: where the clock is asked for the date. It imports nothing else, so that commands start fast."""

from __future__ import annotations

import time
from datetime import date
from functools import lru_cache

SECONDS = 86_400
"""Of a day, by the clock of Unix, which leaves leap seconds out."""
_EPOCH = date(1970, 1, 1).toordinal()


def today() -> date:
    """Return the date in UTC: what prices and retirements go by."""
    return _date(time.time() // SECONDS)


@lru_cache(2)
def _date(days: float) -> date:
    return date.fromordinal(_EPOCH + int(days))
