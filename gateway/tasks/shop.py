"""Task shop: what every task of a process is worked on with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from gateway.lifecycle import Setup
from gateway.ports import Body
from gateway.ports.storage import Blobs
from gateway.ports.tasks import Tasks
from gateway.request.batching import Gates
from gateway.request.flight import Means
from gateway.request.understanding import Understanding

ReadBody = Callable[[str, AsyncIterator[bytes]], Awaitable[Body]]
"""Reads a kept body again: its content type and its bytes."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every task of a process is worked on with."""

    tasks: Tasks
    blobs: Blobs
    read_body: ReadBody
    understanding: Understanding
    current: Callable[[], Setup]
    means: Means
    gates: Gates = field(default_factory=Gates)
