"""Lua scripts: read from `scripts/` at import, put together with the parts that each one needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files

_ROOT = files(__package__) / "scripts"


@dataclass(frozen=True, slots=True)
class Script:
    """A script's source, and the SHA-1 by which the server knows it."""

    source: str
    sha: str


def _load(name: str, *parts: str, flags: str = "") -> Script:
    """Put a script together. `flags` are the server's own: what it may do out of memory, or on a replica."""
    first = f"#!lua flags={flags}" if flags else "#!lua"
    source = "\n".join([first, *((_ROOT / f"{part}.lua").read_text(encoding="utf-8") for part in (*parts, name))])
    return Script(source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


_ALWAYS = "allow-oom"
"""What was spent must be booked even if the server is out of memory; a hold is refused then, before it writes."""
_READ = "no-writes"

# Each part costs time in every call, so none is in a script that does not need it.
_WRITING = ("numbers", "watermark")
_PAIRS = ("numbers", "cell_format", "cells")
_BUCKETS = ("numbers", "bucket_format", "buckets", "cell_format", "cells")
_LINES = (*_BUCKETS, "lines", "line_cells")
_CAUTION = ("dating", "types")
_ATTEMPTS = ("watermark", "giving_counts", "ending", *_CAUTION, "attempts", "correcting", "forgetting", "ended_writes")
_GIVING_BACK = (*_LINES, *_ATTEMPTS, "entry", "giving_back")
_ASKED = (*_LINES, "windows", "asked_lines")
_HOLDING = (
    "windows",
    "epoch",
    "hold_terms",
    "offers",
    "offered_cells",
    "pressure",
    "choosing",
    "taking",
    "held",
    "binding",
    "attempt_writes",
    "take_hold",
)

HOLD = _load("hold", *_BUCKETS, "watermark", "plain", *_HOLDING)
HOLD_IN_PLACE = _load("hold", *_GIVING_BACK, "in_place", *_HOLDING)
"""The same where an earlier hold of the request is given back; it always goes alone."""
REASSERT = _load(
    "reassert", *_ASKED, *_ATTEMPTS, "epoch", "attempt_writes", "taking", "taking_again", "binding", flags=_ALWAYS
)
_ENDING = (
    "held_lines",
    "settle_terms",
    "booking",
    "guessing",
    "never_booked",
    "late_booking",
    "forgetting",
    "dating",
    "end_hold",
)
SETTLE = _load("settle", *_PAIRS, "watermark", *_ENDING, flags=_ALWAYS)
VOID = _load("void", *_GIVING_BACK, "guessing", flags=_ALWAYS)
DROP = _load("drop", *_GIVING_BACK, "taking", "undoing", flags=_ALWAYS)
EXPIRE = _load("expire", *_LINES, *_ATTEMPTS, "entry", flags=_ALWAYS)
ADJUST = _load("adjust", *_LINES, *_ATTEMPTS, "entry", "never_booked", flags=_ALWAYS)
POST = _load("post", *_PAIRS, "line_cells", "signed", "watermark", "ending", *_CAUTION, "entry", flags=_ALWAYS)
RENEW = _load("renew", *_WRITING, flags=_ALWAYS)
ORPHAN = _load("orphan", *_WRITING)
OPEN = _load("open", *_WRITING)
OPEN_ENDS = _load("open_ends", "guessing", flags=_READ)
LAPSED = _load("lapsed", "numbers", flags=_READ)
BALANCES = _load("balances", *_ASKED, "remaining", flags=_READ)
WRITE_KEYS = _load("write_keys")
END_KEY = _load("write_keys", flags=_ALWAYS)
"""The same, for a key that is to end: that cannot wait until somebody has freed memory."""
SNAPSHOT = _load("snapshot", "numbers", flags=_READ)
TAKEN = _load("taken", flags=_READ)
SCAN_REQUESTS = _load("scan_requests", flags=_READ)
UNLISTED = _load("unlisted", flags=_READ)
ESCAPED_ENTRIES = _load("escaped_entries", "numbers", flags=_READ)
RELIST = _load("relist", "numbers", flags=_ALWAYS)
REPAIR = _load("repair", "numbers", flags=_ALWAYS)
TRIM = _load("trim", "numbers", flags=_ALWAYS)
RESTORE_BASE = _load("restore_base", flags=_ALWAYS)
MOVE_BEHIND = _load("move_behind", flags=_ALWAYS)
RESTORE_ATTEMPT = _load("restore_attempt", "numbers", "signed", flags=_ALWAYS)

_TASKS = ("numbers", "task_state")

TASK_ADD = _load("task_add", "numbers")
TASK_UNDO = _load("task_undo", *_TASKS, flags=_ALWAYS)
TASK_TAKE = _load("task_take", *_TASKS, "task_forget", "task_claims", "task_new", "task_looks", flags=_ALWAYS)
TASK_KEEP = _load("task_keep", *_TASKS, flags=_ALWAYS)
TASK_BEGAN = _load("task_began", *_TASKS, flags=_ALWAYS)
TASK_ANNOUNCED = _load("task_announced", *_TASKS, flags=_ALWAYS)
TASK_NOTE = _load("task_note", *_TASKS, flags=_ALWAYS)
TASK_END = _load("task_end", *_TASKS, "task_ending", flags=_ALWAYS)
TASK_CANCEL = _load("task_cancel", *_TASKS, "task_ending", flags=_ALWAYS)
TASK_GIVE_BACK = _load("task_give_back", *_TASKS, flags=_ALWAYS)
TASK_STRIKE_OFF = _load("task_strike_off", *_TASKS, flags=_ALWAYS)
TASK_LIST = _load("task_list", flags=_READ)
CALLBACKS_DUE = _load("callbacks_due", "numbers", flags=_ALWAYS)
CALLBACK_DELIVERED = _load("callback_delivered", flags=_ALWAYS)
CALLBACK_FAILED = _load("callback_failed", "numbers", flags=_ALWAYS)
CALLBACK_PUT_OFF = _load("callback_put_off", "numbers", flags=_ALWAYS)
CALLBACKS_DEAD = _load("callbacks_dead", flags=_READ)
CALLBACK_REVIVE = _load("callback_revive", "numbers", flags=_ALWAYS)
RESPONSE_REMEMBER = _load("response_remember", "numbers", flags=_ALWAYS)
RESPONSE_DONE = _load("response_done", flags=_ALWAYS)
RESPONSES_LAPSED = _load("responses_lapsed", "numbers", flags=_ALWAYS)
RESPONSES_KEEP = _load("responses_keep", "numbers", flags=_ALWAYS)
STRIKE_OFF = _load("strike_off", flags=_ALWAYS)
BATCH_FIND = _load("batch_find", "numbers", flags=_READ)
BATCH_MOVE = _load("batch_move", "numbers", flags=_ALWAYS)
RIGHTS = _load("rights", flags=_READ)
MAY_WRITE = _load("rights")
"""The same, where the server refuses all that writes; the flags of this one say that it may."""
HINT_LEAVE = _load("hint_leave", "numbers")
HINTS_TAKE = _load("hints_take", "numbers", flags=_ALWAYS)
PULSE = _load("pulse")
