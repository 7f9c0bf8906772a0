"""Forecast: where a budget will stand when its window ends, if spending goes on as it did lately."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gateway.domain.budget import Window
from gateway.domain.period import day_start

HOUR = 3600
LEAST_SECONDS = 900.0
"""A window that began a moment ago says nothing of a pace yet."""
LOOK_BACK = {Window.HOUR: HOUR, Window.DAY: 24 * HOUR, Window.WEEK: 7 * 24 * HOUR, Window.MONTH: 7 * 24 * HOUR}
"""Seconds of the window so far by which the pace is judged, at most."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """Micro-USD. `runs_out` is when the limit is reached at that pace; None if that is not within the window."""

    begins: datetime | None
    ends: datetime | None
    pace_per_hour: float
    at_end: int | None
    runs_out: datetime | None


def window_of(window: Window, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return when the calendar window (UTC) that `now` lies in began and when it ends; None for all time."""
    day = day_start(now)
    if window is Window.HOUR:
        hour = now.replace(minute=0, second=0, microsecond=0)
        return hour, hour + timedelta(hours=1)
    if window is Window.DAY:
        return day, day + timedelta(days=1)
    if window is Window.WEEK:
        monday = day - timedelta(days=day.weekday())
        return monday, monday + timedelta(days=7)
    if window is Window.MONTH:
        first = day.replace(day=1)
        return first, (first + timedelta(days=32)).replace(day=1)
    return None, None


def forecast(window: Window, limit: int, used: int, booked: Mapping[int, int], now: datetime) -> Forecast:
    """Return the forecast of a budget of which `used` micro-USD are spent, `booked` by hour (Unix time).

    The pace is that of the window so far, of its last seven days at most; nothing is said of one without an end.
    """
    begins, ends = window_of(window, now)
    if begins is None or ends is None:
        return Forecast(None, None, 0.0, None, None)
    look_back = LOOK_BACK[window]
    since = max(begins, now - timedelta(seconds=look_back))
    spent = used if since == begins else _booked_since(booked, int(since.timestamp()))
    seconds = max((now - since).total_seconds(), LEAST_SECONDS)
    pace = max(spent, 0) / seconds
    at_end = used + round(pace * (ends - now).total_seconds())
    left = limit - used
    runs_out = None
    if left <= 0:
        runs_out = now
    elif pace > 0 and at_end > limit:
        runs_out = now + timedelta(seconds=left / pace)
    return Forecast(begins, ends, pace * HOUR, at_end, runs_out)


def _booked_since(booked: Mapping[int, int], since: int) -> int:
    return sum(micro for hour, micro in booked.items() if hour >= since - HOUR)


def burn_down(
    begins: datetime | None, used: int, booked: Mapping[int, int], now: datetime
) -> tuple[list[int], list[int]]:
    """Return times (Unix) and what was spent by then, micro-USD, since the window began; the last is now.

    What was booked before anything that is known of stands at the beginning.
    """
    start = int(begins.timestamp()) if begins else min(booked, default=int(now.timestamp())) // HOUR * HOUR
    hours = sorted(hour for hour in booked if hour >= start - HOUR)
    spent = used - sum(booked[hour] for hour in hours)
    times, points = [start], [spent]
    for hour in hours:
        if hour > times[-1]:  # nothing was spent up to here
            times.append(hour)
            points.append(spent)
        spent += booked[hour]
        times.append(max(min(hour + HOUR, int(now.timestamp())), times[-1] + 1))
        points.append(spent)
    if times[-1] < int(now.timestamp()):
        times.append(int(now.timestamp()))
        points.append(used)
    return times, points


def iso(moment: datetime | None) -> str | None:
    """Return a moment as JSON has it."""
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds")
