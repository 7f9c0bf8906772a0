"""Today: where the clock is asked for the date. It imports nothing else, so that commands start fast."""

from __future__ import annotations

from datetime import UTC, date, datetime


def today() -> date:
    """Return the date in UTC: what prices and retirements go by."""
    return datetime.now(UTC).date()
