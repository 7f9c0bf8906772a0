"""The entry stream as it lies in the store: raw fields by id, page by page, whatever somebody wrote there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

from gateway.ledger import progress, script
from gateway.ledger.store import Store

PAGE = 500

Raw = tuple[str, Mapping[str, str]]
"""An entry's id and its fields."""


def position(entry_id: str) -> tuple[int, int]:
    """Return an id as numbers that sort: milliseconds and a count; ValueError if it is none."""
    milliseconds, _, count = entry_id.partition("-")
    return int(milliseconds), int(count or "0")


def after(entry_id: str) -> str:
    """Return the first id that comes after this one."""
    milliseconds, count = position(entry_id)
    return f"{milliseconds}-{count + 1}" if count < 2**64 - 1 else f"{milliseconds + 1}-0"


async def raw_entries(
    store: Store, key: str, *, start: str = "-", end: str = "+", page: int = PAGE
) -> AsyncIterator[Raw]:
    """Yield entries in order, bounds as XRANGE takes them; raises LedgerUnavailable."""
    done, first, last = 0, 0, await _last(store, key, start, end) if progress.is_heard() else None
    while True:
        rows = await raw_page(store, key, start, end, page)
        for row in rows:
            yield row
        if rows and last is not None:
            first = first or position(rows[0][0])[0]
            done += len(rows)
            progress.tell("entries", done, _share(position(rows[-1][0])[0], first, last))
        if len(rows) < page:
            return
        start = f"({rows[-1][0]}"


async def _last(store: Store, key: str, start: str, end: str) -> int | None:
    """Return when the last entry within the bounds was written, milliseconds; None if there is none to be read."""
    try:
        rows = await store.execute("XREVRANGE", key, end, start, "COUNT", 1)
    except UnicodeDecodeError:
        return 0
    return position(rows[0][0])[0] if rows else None


def _share(here: int, first: int, last: int) -> float | None:
    return min((here - first) / (last - first), 1.0) if last > first else None


async def raw_page(store: Store, key: str, start: str, end: str, page: int) -> list[Raw]:
    """Return the first entries within the bounds, `page` at most.

    Bytes that are no text are shown in hexadecimal, so that nothing in the stream can end the reading of it.
    """
    try:
        return [(row[0], row[1]) for row in await store.execute("XRANGE", key, start, end, "COUNT", page)]
    except UnicodeDecodeError:
        escaped = await store.run(script.ESCAPED_ENTRIES, [key], [start, end, str(page)])
    return [await _entry(store, key, entry_id, flat) for entry_id, flat in escaped]


async def _entry(store: Store, key: str, entry_id: str, escaped: list[str]) -> Raw:
    try:
        rows = await store.execute("XRANGE", key, entry_id, entry_id)
    except UnicodeDecodeError:
        rows = []
    return (entry_id, rows[0][1]) if rows else (entry_id, dict(zip(escaped[::2], escaped[1::2], strict=True)))
