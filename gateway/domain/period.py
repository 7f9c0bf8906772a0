"""Periods: from when until when a report looks, as people write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from gateway.domain.budget import Window

_SPAN = re.compile(r"([0-9]{1,6})([smhdw])", re.ASCII)
EARLIEST, LATEST = 1970, 9998
"""Years in which moments may lie: Unix time begins with the first, and a day after the last can still be written."""
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str) -> timedelta:
    """Read a length of time such as `90s`, `10m`, `2h`, `30d` or `4w`; ValueError for anything else."""
    match = _SPAN.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a length of time such as 10m, 2h or 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_moment(text: str, now: datetime) -> datetime:
    """Read a moment in UTC: a day (its beginning), an ISO 8601 time, or a length of time before `now`.

    A time without a zone is UTC. ValueError for anything else, and for what is `OutOfTime`.
    """
    try:
        return in_time(now - parse_span(text) if _SPAN.fullmatch(text) else datetime.fromisoformat(text))
    except (OutOfTime, OverflowError) as error:
        raise ValueError(f"{text!r}: {OutOfTime()}") from error
    except ValueError as error:
        raise ValueError(f"{text!r} is not a day such as 2026-11-01, a time, or a span such as 30d") from error


class OutOfTime(ValueError):
    """A moment before or after all that a ledger can have booked, and near the ends of what can be reckoned with."""

    def __init__(self) -> None:
        super().__init__(f"a time must lie in the years {EARLIEST} to {LATEST}")


def in_time(moment: datetime) -> datetime:
    """Return the moment in UTC, without a zone taken to be that already; OutOfTime outside the years of `EARLIEST`."""
    if not EARLIEST <= moment.year <= LATEST:  # first, for another zone's may be no year at all
        raise OutOfTime
    found = as_utc(moment)
    if not EARLIEST <= found.year <= LATEST:
        raise OutOfTime
    return found


def as_utc(moment: datetime) -> datetime:
    """Return the moment in UTC; one without a zone is taken to be UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def day_start(moment: datetime) -> datetime:
    """Return the beginning of the day that a moment lies in."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def window_id(window: Window, moment: datetime) -> str:
    """Return the name of the calendar window that a moment (UTC) lies in, as the ledger's balances are named."""
    day = moment.date()
    if window is Window.WEEK:
        day -= timedelta(days=day.weekday())
    forms = {Window.HOUR: moment.strftime("%Y-%m-%dT%H"), Window.MONTH: day.isoformat()[:7], Window.TOTAL: "total"}
    return forms.get(window) or day.isoformat()
