"""Today: the date that prices and retirements go by."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from gateway.process import today as clock


@pytest.mark.parametrize(
    "midnight", [datetime(2026, 1, 1, tzinfo=UTC), datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)]
)
def test_a_day_ends_at_midnight_in_utc(midnight: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the last moment it is the day before, and the date is never one that was remembered of another day."""
    for seconds in (-86_400.0, -0.001, 0.0, 0.001, 86_399.999, 86_400.0, -1.0):
        now = midnight.timestamp() + seconds
        monkeypatch.setattr(clock, "time", SimpleNamespace(time=lambda now=now: now))
        assert clock.today() == datetime.fromtimestamp(now, UTC).date()
