"""What tests of outgoing calls share: a record of every connection that this process tries."""

from __future__ import annotations

import sys

import pytest

Target = tuple[str, int]

_seen: list[Target] = []
_hooked: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        _seen.append((str(arguments[1][0]), int(arguments[1][1])))


@pytest.fixture
def connections() -> list[Target]:
    """Every address and port that anything in this process connects or sends to during the test."""
    if not _hooked:  # an audit hook stays until the process ends
        sys.addaudithook(_hook)
        _hooked.append(True)
    _seen.clear()
    return _seen
