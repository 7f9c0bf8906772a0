"""A replay as one page of HTML with charts drawn in SVG: opens anywhere, asks nothing of the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from html import escape
from itertools import accumulate

from gateway.domain import money
from gateway.reporting.replaying import NOTES, Replay, ReplayRow
from gateway.reporting.reports import NO_REQUESTS

WIDTH, HEIGHT, LEFT, BOTTOM, BAR = 860, 300, 70, 30, 16
THEN, NOW = "#6b7280", "#2563eb"
_BARS = 12
"""Most groups that are drawn; the table has all."""
_BY_DAY = timedelta(days=3)
"""From so long a history on, its cost is drawn by the day and not by the hour."""
_CENT = Decimal("0.01")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 900px; color: #111827; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th, td { padding: .3rem .6rem; text-align: right }
th { border-bottom: 2px solid #d1d5db } td { border-bottom: 1px solid #e5e7eb }
th.word, td.word { text-align: left } tr.total td { font-weight: 600 } svg { width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: #374151 } .then { color: #6b7280 } .now { color: #2563eb }
"""


def page(found: Replay) -> str:
    """Return the whole page."""
    parts = [
        f"<h1>Replay under policy {escape(found.digest)}</h1>",
        _headline(found.total) if found.rows else f"<p>{NO_REQUESTS}</p>",
        *(_charts(found) if found.rows else ()),
        _counts("Moves", ("project", "job type", "from", "to"), found.moves.items()),
        _counts("Denials", ("project", "job type", "code"), found.denials.items()),
        "".join(f"<p>{escape(note)}</p>" for note in NOTES),
    ]
    title = f"<title>Replay {escape(found.digest)}</title>"
    return f"<!doctype html><html lang=en><meta charset=utf-8>{title}<style>{_STYLE}</style>{''.join(parts)}</html>\n"


def _headline(total: ReplayRow) -> str:
    then, now = total.recorded.route, total.replayed.route
    recorded, replayed = f"<b class=then>Recorded {_usd(then)}</b>", f"<b class=now>replayed {_usd(now)}</b>"
    requests = f"{total.requests} request{'' if total.requests == 1 else 's'}"
    words = [f"{recorded}, {replayed}: a difference of {_usd(now - then)} over {requests}, {total.denied} denied."]
    if total.estimated:
        words.append(escape(total.estimates()))
    if total.left:
        words.append(escape(total.left_out()))
    return f"<p>{' '.join(words)}</p>"


def _charts(found: Replay) -> tuple[str, ...]:
    by_project = ("<h2>By project and job type</h2>", _bars(found.rows[:_BARS]), _table(found))
    return ("<h2>Cost to date</h2>", _to_date(found), *by_project)


def _to_date(found: Replay) -> str:
    short = max(found.hours) - min(found.hours) < _BY_DAY
    costs, shape = (found.hours, "%Y-%m-%d %H:00 UTC") if short else (found.days, "%Y-%m-%d")
    times = sorted(costs)
    then = list(accumulate(costs[time][0] for time in times))
    now = list(accumulate(costs[time][1] for time in times))
    top = max(*then, *now, 1)
    span = times[-1] - times[0]

    def place(time: datetime, value: int) -> tuple[float, float]:
        share = (time - times[0]) / span if span else 0.5
        return LEFT + (WIDTH - LEFT - 10) * share, 10 + (HEIGHT - BOTTOM - 10) * (1 - max(value, 0) / top)

    base = HEIGHT - BOTTOM
    axes = f'<path d="M{LEFT},10 V{base} H{WIDTH - 10}" fill="none" stroke="#9ca3af"/>'
    labels = (
        f'<text x="{LEFT - 6}" y="18" text-anchor="end">{_usd(top)}</text>'
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">$0</text>'
    )
    if span:
        labels += f'<text x="{LEFT}" y="{HEIGHT - 8}">{times[0]:{shape}}</text>'
        labels += f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">{times[-1]:{shape}}</text>'
    else:
        labels += f'<text x="{(WIDTH + LEFT) / 2:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{times[0]:{shape}}</text>'
    drawn = "".join(
        _line([place(*each) for each in zip(times, values, strict=True)], colour, name, radius)
        for values, colour, name, radius in ((then, THEN, "recorded", 7), (now, NOW, "replayed", 4))
    )
    return _svg(HEIGHT, axes + labels + drawn, "cost to date, recorded and replayed")


def _line(points: Sequence[tuple[float, float]], colour: str, name: str, radius: int) -> str:
    """A line, or where it has one point that point: the smaller one of two in the same place lies on the larger."""
    if len(points) == 1:
        (x, y) = points[0]
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"><title>{name}</title></circle>'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = f'points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"'
    return f"<polyline {drawn}><title>{name}</title></polyline>"


def _bars(rows: Sequence[ReplayRow]) -> str:
    top = max((max(row.recorded.route, row.replayed.route) for row in rows), default=0) or 1
    left, step = 260, 2 * BAR + 14
    drawn = []
    for number, row in enumerate(rows):
        y = number * step + 4
        name = escape(f"{row.project} · {row.job_type}")
        drawn.append(f'<text x="{left - 8}" y="{y + BAR + 4}" text-anchor="end">{name}</text>')
        for offset, value, colour in ((0, row.recorded.route, THEN), (BAR, row.replayed.route, NOW)):
            wide = (WIDTH - left - 90) * max(value, 0) / top
            drawn.append(f'<rect x="{left}" y="{y + offset}" width="{wide:.1f}" height="{BAR - 2}" fill="{colour}"/>')
            drawn.append(f'<text x="{left + wide + 6:.1f}" y="{y + offset + BAR - 5}">{_usd(value)}</text>')
    return _svg(max(len(rows) * step, 1), "".join(drawn), "cost by project and job type, recorded and replayed")


def _svg(height: int, inner: str, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{inner}</svg>'


def _usd(nano: int) -> str:
    """USD for a reader, such as `-$0.97`: to the cent, below a cent the two digits that count. The table is exact."""
    usd = Decimal(abs(nano)) / money.NANO_PER_USD
    decimals = 2 if not nano or usd >= _CENT else 1 - usd.adjusted()
    return f"{'-' if nano < 0 else ''}${usd:,.{decimals}f}"


def _table(found: Replay) -> str:
    heads = ("requests", "denied", "degraded", "moved", "repriced", "recorded USD", "replayed USD", "difference USD")
    rows = [_row((row.project, row.job_type), row) for row in found.rows]
    rows.append(_row(("total", ""), found.total, kind="total"))
    words = "".join(f"<th class=word>{head}</th>" for head in ("project", "job type"))
    return f"<table><tr>{words}{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def _row(words: Iterable[str], row: ReplayRow, *, kind: str = "row") -> str:
    then, now = row.recorded.route, row.replayed.route
    figures = [row.requests, row.denied, row.degraded, row.moved, row.repriced]
    cells = [*map(str, figures), *map(money.format_usd, (then, now, now - then))]
    named = "".join(f"<td class=word>{escape(word)}</td>" for word in words)
    return f"<tr class={kind}>{named}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _counts(title: str, heads: Sequence[str], counted: Iterable[tuple[tuple[str, ...], int]]) -> str:
    ordered = sorted(counted, key=lambda item: (-item[1], item[0]))
    if not ordered:
        return ""
    rows = "".join(
        f"<tr>{''.join(f'<td class=word>{escape(word)}</td>' for word in key)}<td>{count}</td></tr>"
        for key, count in ordered
    )
    top = "".join(f"<th class=word>{head}</th>" for head in heads)
    return f"<h2>{title}</h2><table><tr>{top}<th>requests</th></tr>{rows}</table>"
