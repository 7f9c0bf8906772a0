"""JSON paths: where in a parsed document a value lies, such as `error.code`, `urls.get`, `images[0].url`, `a[*].url`.

Names are separated by dots; `[N]` takes the item of that number, `[*]` all items.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

RULE = "names separated by dots, each with [0] or [*] behind it where it is a list"

_PART = re.compile(r"([A-Za-z0-9_-]+)((?:\[(?:[0-9]{1,4}|\*)\])*)", re.ASCII)
_INDEX = re.compile(r"\[([0-9]+|\*)\]", re.ASCII)

Step = str | int | None
"""A member's name, an item's number, or None for all items."""


@lru_cache(maxsize=1024)
def parse(path: str) -> tuple[Step, ...]:
    """Return the steps of a path; ValueError if it is not one."""
    steps: list[Step] = []
    for part in path.split("."):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{path!r} is no path: {RULE}")
        steps.append(match[1])
        steps += (None if index == "*" else int(index) for index in _INDEX.findall(match[2]))
    return tuple(steps)


def found(document: object, path: str) -> list[object]:
    """Return what lies at a path, null left out: several values where it has `[*]`, none where it leads nowhere."""
    return [value for value in _walk(document, parse(path)) if value is not None]


def first(document: object, *paths: str) -> object:
    """Return the first value that one of the paths finds; None if none does."""
    return next((value for path in paths if path for value in found(document, path)), None)


def is_null(document: object, path: str) -> bool:
    """Tell whether null is what lies at a path."""
    return None in _walk(document, parse(path))


def _walk(value: object, steps: tuple[Step, ...]) -> Iterator[object]:
    if not steps:
        yield value
        return
    step, rest = steps[0], steps[1:]
    if isinstance(step, str):
        if isinstance(value, dict) and step in value:
            yield from _walk(value[step], rest)
    elif isinstance(value, list):
        items = value if step is None else value[step : step + 1]
        for item in items:
            yield from _walk(item, rest)
