"""Fresh: names that nothing else has, and that nobody can guess, from the system's randomness fetched ahead."""

from __future__ import annotations

import os

_FETCHED = 4096
"""Bytes asked for at once: each question is a system call."""


class _Randomness:
    def __init__(self) -> None:
        self._bytes, self._at = b"", 0
        os.register_at_fork(after_in_child=self._forget)  # two processes must never name things alike

    def take(self, size: int) -> bytes:
        at = self._at
        if at + size > len(self._bytes):
            self._bytes, at = os.urandom(max(_FETCHED, size)), 0
        self._at = at + size
        return self._bytes[at : at + size]

    def _forget(self) -> None:
        self._bytes, self._at = b"", 0


_randomness = _Randomness()


def fresh_hex(size: int = 16) -> str:
    """Return so many random bytes as hexadecimal digits. For names alone: secrets come straight from the system."""
    return _randomness.take(size).hex()
