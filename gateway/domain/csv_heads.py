"""Heads of CSV files: whether what parts their columns is a comma, as it has to be."""

from __future__ import annotations

from collections.abc import Sequence

_OTHERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def parted_otherwise(head: Sequence[str]) -> str | None:
    """Say what is wrong where the head was read as one column and another mark than a comma parts it, else None."""
    marks = (word for mark, word in _OTHERS.items() if len(head) == 1 and mark in head[0])
    found = next(marks, None)
    return f"{found} part its columns: save it with commas, and with points in decimals" if found else None
