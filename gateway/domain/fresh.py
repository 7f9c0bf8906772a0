"""Fresh: names that nothing else has, and that nobody can guess, from the system's randomness fetched ahead."""

from __future__ import annotations

import os

_FETCHED = 4096
"""Bytes asked for at once: each question is a system call."""


class _Ahead:
    """Digits that nobody has taken, and where the next ones begin."""

    def __init__(self) -> None:
        self.digits, self.at = "", 0
        os.register_at_fork(after_in_child=self.forget)  # two processes must never name things alike

    def forget(self) -> None:
        self.digits, self.at = "", 0


_ahead = _Ahead()


def fresh_hex(size: int = 16) -> str:
    """Return so many random bytes as hexadecimal digits. For names alone: secrets come straight from the system."""
    start = _ahead.at
    end = start + 2 * size
    if end > len(_ahead.digits):
        _ahead.digits, start, end = os.urandom(max(_FETCHED, size)).hex(), 0, 2 * size
    _ahead.at = end
    return _ahead.digits[start:end]
