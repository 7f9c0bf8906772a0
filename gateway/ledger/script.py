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


def _load(name: str, *parts: str, flags: str = "") -> Script:
    """Put a script together. `flags` are the server's own: what it may do out of memory, or on a replica."""
    first = f"#!lua flags={flags}" if flags else "#!lua"
    source = "\n".join([first, *((_ROOT / f"{part}.lua").read_text(encoding="utf-8") for part in (*parts, name))])
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


_ALWAYS = "allow-oom"
"""What was spent must be booked even if the server is out of memory; a hold is refused then, before it writes."""
_READ = "no-writes"

_COUNTING = ("numbers", "windows", "lines", "cell_format", "cells", "counting")
_WRITING = ("numbers", "watermark")
_ATTEMPTS = (*_COUNTING, "watermark", "ending", "guards", "attempts", "attempt_writes")

_OFFERS = (*_ATTEMPTS, "pressure", "offers", "binding")

HOLD = _load("hold", *_OFFERS)
REASSERT = _load("reassert", *_OFFERS, flags=_ALWAYS)
SETTLE = _load("settle", *_ATTEMPTS, "entry", flags=_ALWAYS)
VOID = _load("void", *_ATTEMPTS, "entry", flags=_ALWAYS)
DROP = _load("drop", *_ATTEMPTS, flags=_ALWAYS)
EXPIRE = _load("expire", *_ATTEMPTS, "entry", flags=_ALWAYS)
ADJUST = _load("adjust", *_ATTEMPTS, "entry", flags=_ALWAYS)
POST = _load("post", *_COUNTING, "watermark", "ending", "entry", flags=_ALWAYS)
MARK_SENT = _load("mark_sent", *_WRITING, flags=_ALWAYS)
RENEW = _load("renew", *_WRITING, flags=_ALWAYS)
ORPHAN = _load("orphan", *_WRITING)
OPEN = _load("open", *_WRITING)
OPEN_ENDS = _load("open_ends", flags=_READ)
LAPSED = _load("lapsed", "numbers", flags=_READ)
BALANCES = _load("balances", *_COUNTING, flags=_READ)
WRITE_KEYS = _load("write_keys")
SNAPSHOT = _load("snapshot", "numbers", flags=_READ)
TAKEN = _load("taken", flags=_READ)
SCAN_REQUESTS = _load("scan_requests", flags=_READ)
UNLISTED = _load("unlisted", flags=_READ)
ESCAPED_ENTRIES = _load("escaped_entries", "numbers", flags=_READ)
RELIST = _load("relist", "numbers", flags=_ALWAYS)
REPAIR = _load("repair", "numbers", flags=_ALWAYS)
TRIM = _load("trim", "numbers", flags=_ALWAYS)
RESTORE_BASE = _load("restore_base", flags=_ALWAYS)
RESTORE_ATTEMPT = _load("restore_attempt", "numbers", flags=_ALWAYS)
