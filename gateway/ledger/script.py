"""Lua scripts: read from `scripts/` at import, put together with the parts that each one needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

_ROOT = files(__package__) / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's name, source, and the SHA-1 by which the server knows it."""

    name: str
    source: str
    sha: str


def _load(name: str, *parts: str) -> Script:
    source = "\n".join((_ROOT / f"{part}.lua").read_text(encoding="utf-8") for part in (*parts, name))
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


_COUNTING = ("numbers", "windows", "lines", "cell_format", "cells", "counting")
_ATTEMPTS = (*_COUNTING, "ending", "attempts")

HOLD = _load("hold", *_ATTEMPTS, "offers")
SETTLE = _load("settle", *_ATTEMPTS, "entry")
VOID = _load("void", *_ATTEMPTS, "entry")
DROP = _load("drop", *_ATTEMPTS)
EXPIRE = _load("expire", *_ATTEMPTS, "entry")
MARK_SENT = _load("mark_sent", "numbers")
RENEW = _load("renew", "numbers")
LAPSED = _load("lapsed", "numbers")
BALANCES = _load("balances", *_COUNTING)
OPEN = _load("open")
WRITE_KEYS = _load("write_keys")
