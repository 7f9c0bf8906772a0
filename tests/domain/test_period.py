"""Periods as people write them: spans, days and times, all in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.period import parse_moment, parse_span

NOW = datetime(2026, 11, 20, 12, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("10m", timedelta(minutes=10)),
        ("2h", timedelta(hours=2)),
        ("30d", timedelta(days=30)),
        ("4w", timedelta(weeks=4)),
        ("0m", timedelta(0)),
    ],
)
def test_spans(text: str, span: timedelta) -> None:
    """A number and a unit are a length of time, and a moment that long ago."""
    assert parse_span(text) == span
    assert parse_moment(text, NOW) == NOW - span


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T08:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("2026-11-01 08:00:00+02:00", datetime(2026, 11, 1, 6, tzinfo=UTC)),
        ("2026-11-01T08:00:00Z", datetime(2026, 11, 1, 8, tzinfo=UTC)),
    ],
)
def test_days_and_times(text: str, moment: datetime) -> None:
    """A day is its beginning; a time without a zone is UTC, one with a zone is turned into it."""
    assert parse_moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "30", "d", "-3d", "1.5h", "3 d", "yesterday", "11/01/2026", "2026-13-01", "-1"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Anything else is told, with what is understood."""
    with pytest.raises(ValueError, match="not a day"):
        parse_moment(text, NOW)


@pytest.mark.parametrize(
    "text",
    [
        "1969-12-31",
        "0001-01-01",
        "0001-01-01T00:00:00+14:00",
        "1970-01-01T00:30:00+01:00",
        "9999-01-01",
        "9999-12-31T23:59:59-14:00",
        "9998-12-31T23:30:00-01:00",
        "30000d",
        "999999w",
    ],
)
def test_what_no_ledger_can_have_booked_is_refused(text: str) -> None:
    """Before Unix time and at the end of the calendar there is nothing to ask the store for, and sums go astray."""
    with pytest.raises(ValueError, match="years 1970 to 9998"):
        parse_moment(text, NOW)


@pytest.mark.parametrize("text", ["1970-01-01", "1970-01-01T01:00:00+01:00", "9998-12-31T23:59:59"])
def test_the_first_and_the_last_moment(text: str) -> None:
    """The years at both ends are whole."""
    assert parse_moment(text, NOW).year in (1970, 9998)
