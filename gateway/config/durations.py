"""Durations: readers of lengths of time with their unit, in seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.config.documents import Node, Value
from gateway.config.problems import Report
from gateway.config.values import Reader, described

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_SHORTEST_PAUSE = 0.1


def _time(units: Sequence[str], what: str, most: tuple[int, str]) -> Reader[float]:
    """Return a reader of times in some units; `what` says by examples how they are written."""
    written = re.compile(rf"([1-9][0-9]{{0,5}})({'|'.join(units)})", re.ASCII)
    none = re.compile(f"0+({'|'.join(units)})", re.ASCII)
    number, unit = most
    longest = number * _SECONDS[unit]

    def read(node: Node, report: Report) -> float | None:
        match = written.fullmatch(node.text) if isinstance(node, Value) else None
        if match is None:
            nothing = isinstance(node, Value) and none.fullmatch(node.text)
            report.problem(node.place, f"must be {'above 0, ' if nothing else ''}a {what}, not {described(node)}")
            return None
        seconds = int(match[1]) * _SECONDS[match[2]]
        if seconds > longest:
            report.problem(node.place, f"must be at most {number}{unit}, not {match[0]}")
            return None
        return seconds

    return read


duration = _time(("ms", "s", "m", "h"), "duration such as 500ms, 180s or 2m", (1, "h"))
"""How long something may take."""
keeping = _time(("m", "h", "d"), "time such as 30m, 24h or 7d", (90, "d"))
"""For how long something is kept."""
patience = _time(("s", "m", "h", "d"), "duration such as 90s, 10m, 24h or 7d", (30, "d"))
"""For how long a provider may take over work that it does by itself."""


def collecting(node: Node, report: Report) -> float | None:
    """For how long requests are collected: `30s`, `15m` or `6h`."""
    if str(getattr(node, "text", "")).endswith("s"):
        return duration(node, report)
    return keeping(node, report)


def pause(node: Node, report: Report) -> float | None:
    """A pause between two looks at something that is not ours."""
    seconds = duration(node, report)
    if seconds is not None and seconds < _SHORTEST_PAUSE:
        report.problem(node.place, "must be at least 100ms: the provider is asked each time")
        return None
    return seconds
