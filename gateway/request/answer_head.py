"""The headers of an answer that goes through: what their names come to is worked out once, the values each time."""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

from gateway.ports import Headers

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
"""RFC 9110, 7.6.1."""
_OWN = frozenset({"date", "server"})
"""What the server itself says on this hop."""
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_SOUND_ALONE = bytes.maketrans(bytes(each for each in range(128) if _UNSAFE.match(chr(each))), b"?" * 32)
"""Changes what has any of these in it."""
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_MOST_FORMS = 256


class _Form(NamedTuple):
    """What headers of these names come to."""

    pieces: list[str]
    """Their lines, in which every second piece is the place of a value."""
    pick: Callable[[tuple[str, ...]], tuple[str, ...]]
    """Takes all values, the request id and, for the end, an empty one; returns those that have a place."""
    length: int | None
    """Which of the values is that of Content-Length."""


_forms: dict[tuple[str, ...], _Form] = {}
"""By the names as they were written; none with `Connection`, whose value has a say in it."""


def end_to_end(headers: Headers, request_id: str) -> tuple[bytes, int | None]:
    """Return the lines of the headers that concern the client, and how long a body they tell of, in bytes.

    No hop-by-hop headers, none that `Connection` names, none malformed; with a request id, and a word on storing.
    """
    names: tuple[str, ...]
    values: tuple[str, ...]
    names, values = zip(*headers) if headers else ((), ())  # noqa: B905 - pairs cannot differ in length
    values_alone = "".join(values).encode("latin-1", "replace")
    if values_alone.translate(_SOUND_ALONE) != values_alone:
        return end_to_end([(name, value) for name, value in headers if not _UNSAFE.search(value)], request_id)
    form, pick, length = _forms.get(names) or _form_of(names, values)
    pieces = form.copy()
    pieces[1::2] = pick((*values, request_id, ""))
    return "".join(pieces).encode("latin-1", "replace"), None if length is None else int(values[length])


def _form_of(names: tuple[str, ...], values: tuple[str, ...]) -> _Form:
    lower = [name.lower() if _TOKEN.fullmatch(name) else "" for name in names]
    dropped = {"", *_HOP_BY_HOP, *_OWN}
    for name, value in zip(lower, values, strict=True):
        if name == "connection":
            dropped.update(token.strip().lower() for token in value.split(","))
    shown = [(place, name) for place, name in enumerate(lower) if name not in dropped]
    kept = {name: place for place, name in shown}
    if "x-request-id" not in kept:
        shown.append((len(names), "x-request-id"))
    pieces = [piece for _, name in shown for piece in (f"\r\n{name}: ", "")]
    pieces[0] = pieces[0].lstrip()
    pieces += ["\r\n" if "cache-control" in kept else "\r\ncache-control: no-store\r\n", ""]
    pick = itemgetter(*(place for place, _ in shown), len(names) + 1)
    form = _Form(pieces, pick, kept.get("content-length"))
    if "connection" not in lower:
        if len(_forms) >= _MOST_FORMS:
            _forms.clear()
        _forms[names] = form
    return form
