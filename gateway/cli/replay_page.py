"""A replay as one page of HTML with charts drawn in SVG: opens anywhere, asks nothing of the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from itertools import accumulate

from gateway.domain import money
from gateway.replaying import NOTES, Line, Replay

WIDTH, HEIGHT, LEFT, BOTTOM, BAR = 860, 300, 70, 30, 16
THEN, NOW = "#6b7280", "#2563eb"
_BARS = 12
"""Most groups that are drawn; the table has all."""
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 900px; color: #111827; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin: 1rem 0 } th, td { padding: .3rem .6rem; text-align: right }
th { border-bottom: 2px solid #d1d5db } td { border-bottom: 1px solid #e5e7eb }
th.word, td.word { text-align: left } tr.total td { font-weight: 600 } svg { width: 100%; height: auto }
svg text { font: 12px system-ui, sans-serif; fill: #374151 } .then { color: #6b7280 } .now { color: #2563eb }
"""


def page(found: Replay) -> str:
    """Return the whole page."""
    then, now = found.total.recorded.route, found.total.replayed.route
    difference = f"a difference of ${money.format_usd(now - then)} over {found.total.requests} requests."
    recorded = f"<b class=then>Recorded ${money.format_usd(then)}</b>"
    parts = [
        f"<h1>Replay under policy {escape(found.digest)}</h1>",
        f"<p>{recorded}, <b class=now>replayed ${money.format_usd(now)}</b>: {difference}</p>",
        "<h2>Cost to date</h2>",
        _to_date(found),
        "<h2>By project and job type</h2>",
        _bars(found.rows[:_BARS]),
        _table(found),
        _counts("Moves", ("project", "job type", "from", "to"), found.moves.items()),
        _counts("Denials", ("project", "job type", "code"), found.denials.items()),
        "".join(f"<p>{escape(note)}</p>" for note in NOTES),
    ]
    title = f"<title>Replay {escape(found.digest)}</title>"
    return f"<!doctype html><html lang=en><meta charset=utf-8>{title}<style>{_STYLE}</style>{''.join(parts)}</html>\n"


def _to_date(found: Replay) -> str:
    days = sorted(found.days)
    if not days:
        return "<p>Nothing was booked in this period.</p>"
    then = list(accumulate(found.days[day][0] for day in days))
    now = list(accumulate(found.days[day][1] for day in days))
    top = max(*then, *now, 1)
    span = max((days[-1] - days[0]).days, 1)

    def points(values: Sequence[int]) -> str:
        across = [LEFT + (WIDTH - LEFT - 10) * (day - days[0]).days / span for day in days]
        down = [10 + (HEIGHT - BOTTOM - 10) * (1 - max(value, 0) / top) for value in values]
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))

    base = HEIGHT - BOTTOM
    axes = f'<path d="M{LEFT},10 V{base} H{WIDTH - 10}" fill="none" stroke="#9ca3af"/>'
    labels = (
        f'<text x="{LEFT - 6}" y="18" text-anchor="end">${_short(top)}</text>'
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">$0</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 8}">{days[0]}</text>'
        f'<text x="{WIDTH - 10}" y="{HEIGHT - 8}" text-anchor="end">{days[-1]}</text>'
    )
    drawn = "".join(
        f'<polyline points="{points(values)}" fill="none" stroke="{colour}" stroke-width="2.5"><title>{name}</title>'
        "</polyline>"
        for values, colour, name in ((then, THEN, "recorded"), (now, NOW, "replayed"))
    )
    return _svg(HEIGHT, axes + labels + drawn, "cost to date, recorded and replayed")


def _bars(rows: Sequence[Line]) -> str:
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
            drawn.append(f'<text x="{left + wide + 6:.1f}" y="{y + offset + BAR - 5}">${_short(value)}</text>')
    return _svg(max(len(rows) * step, 1), "".join(drawn), "cost by project and job type, recorded and replayed")


def _svg(height: int, inner: str, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}">{inner}</svg>'


def _short(nano: int) -> str:
    """USD for a chart: two decimals, or three digits that count where it is less."""
    usd = nano / money.NANO_PER_USD
    return f"{usd:,.2f}" if abs(usd) >= 1 or not nano else f"{usd:.3g}"


def _table(found: Replay) -> str:
    heads = ("requests", "denied", "degraded", "moved", "repriced", "recorded USD", "replayed USD", "difference USD")
    rows = [_row((row.project, row.job_type), row) for row in found.rows]
    rows.append(_row(("total", ""), found.total, kind="total"))
    words = "".join(f"<th class=word>{head}</th>" for head in ("project", "job type"))
    return f"<table><tr>{words}{''.join(f'<th>{head}</th>' for head in heads)}</tr>{''.join(rows)}</table>"


def _row(words: Iterable[str], row: Line, *, kind: str = "row") -> str:
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
