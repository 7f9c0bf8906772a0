"""What happened and why, out of the counts of every process: lines for a table, and how long routes take."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.observe.event_counts import SEPARATOR, seconds_of

WHAT = ("denied", "degraded", "waited", "fallback", "failed", "ejected", "replaced")
MOST = 100


def causes(counts: Mapping[str, int]) -> dict[str, list[dict[str, object]]]:
    """Return for each kind of thing how often it happened and to whom and why, most often first."""
    found: dict[str, list[dict[str, object]]] = {what: [] for what in WHAT}
    for name, count in sorted(counts.items(), key=lambda each: (-each[1], each[0])):
        what, *words = name.split(SEPARATOR)
        if what in found and len(found[what]) < MOST:
            found[what].append(_cause(what, words, count, counts))
    return found


def _cause(what: str, words: list[str], count: int, counts: Mapping[str, int]) -> dict[str, object]:
    if what == "fallback":
        return {"who": f"{words[0]} → {words[1]}", "why": words[2], "count": count}
    if what == "replaced":
        return {"who": words[0], "why": f"{words[1]} → {words[2]}", "count": count}
    if what == "waited":
        total = counts.get(SEPARATOR.join(("waited_ms", words[0])), 0)
        return {"who": words[0], "why": f"{total / 1000 / count:.1f} s on average", "count": count}
    return {"who": words[0], "why": words[1] if len(words) > 1 else "", "count": count}


def of_routes(counts: Mapping[str, int]) -> dict[str, dict[str, object]]:
    """Return by route its calls and failures, and how long calls took: half of them, and 95 of 100, at most."""
    took: dict[str, dict[int, int]] = {}
    failed: dict[str, int] = {}
    for name, count in counts.items():
        what, *words = name.split(SEPARATOR)
        if what == "took":
            took.setdefault(words[0], {})[int(words[1])] = count
        elif what == "failed":
            failed[words[0]] = failed.get(words[0], 0) + count
    return {
        route: {
            "calls": sum(took.get(route, {}).values()) + failed.get(route, 0),  # only those that succeed took time
            "failed": failed.get(route, 0),
            "p50": _quantile(took.get(route, {}), 0.5),
            "p95": _quantile(took.get(route, {}), 0.95),
        }
        for route in took.keys() | failed.keys()
    }


def _quantile(took: Mapping[int, int], share: float) -> float | None:
    left = share * sum(took.values())
    for step in sorted(took):
        left -= took[step]
        if left <= 0:
            return round(seconds_of(step), 2)
    return None
