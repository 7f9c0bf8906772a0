"""Random names that nothing else has, and that nobody can guess, from the system's randomness fetched ahead."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import chain

_FETCHED = 128
"""Names made at once: each question is a system call."""


def random_names(size: int) -> Callable[[], str]:
    """Return what returns so many random bytes as hexadecimal digits, other ones each time.

    For names alone: secrets come straight from the system.
    """
    ahead: list[str] = []

    def fetch() -> list[str]:
        nonlocal ahead
        ahead = os.urandom(_FETCHED * size).hex(" ", size).split()
        return ahead

    def forget() -> None:
        ahead.clear()

    os.register_at_fork(after_in_child=forget)  # two processes must never name things alike
    return chain.from_iterable(iter(fetch, None)).__next__


random_hex = random_names(16)
"""Returns 32 hexadecimal digits."""
