"""Where bytes are kept that outlive a request, for all gateways that share a store."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

FULL, SLOW, AWAY = "full", "slow", "unavailable"
"""Why a storage does not serve."""


class StorageUnavailable(Exception):
    """The storage is full, away or too slow. The message is for logs, `reason` is a bounded word for metrics."""

    def __init__(self, message: str, reason: str = AWAY) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that are kept. `chunks(start, end)` yields a range of them and may be called again.

    `modified` is when they were put last, Unix seconds.
    """

    length: int
    chunks: Callable[[int, int], AsyncIterator[bytes]]
    modified: float = 0.0


class Stored(NamedTuple):
    """A blob in a list: its name, its bytes, and when it was put last (Unix seconds)."""

    name: str
    length: int
    modified: float


class Blobs(Protocol):
    """Bytes by name: letters, digits, `-`, `_` and `/`. Every method raises StorageUnavailable."""

    async def put(self, name: str | Callable[[], str], content: AsyncIterator[bytes], *, durable: bool = True) -> int:
        """Keep bytes under a name, whole or not at all, and return how many; also raises what `content` raises.

        A name that depends on the content is a function, called once that has gone by. What is not `durable` need not
        outlive a power loss.
        """

    async def get(self, name: str) -> Blob | None:
        """Return what is kept under a name; None if nothing is."""

    async def delete(self, name: str, *, unless_after: float | None = None) -> bool:
        """Delete it, unless it was put after this time (Unix seconds), and tell whether there was something to delete.

        Harmless if there is nothing.
        """

    def list(self, prefix: str, *, after: str = "") -> AsyncGenerator[Stored, None]:
        """Yield what is kept below `prefix/`, in the order of names, from the one that follows `after` on."""
