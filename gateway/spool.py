"""Spool: bytes on their way through, in memory while few, in an unnamed temporary file beyond that."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from typing import BinaryIO, ClassVar

from gateway.domain.errors import Unavailable

_BATCH = 256 * 1024
"""Bytes written or read in one go off the event loop; with what is in flight, the memory one body takes."""
_WHOLE = 16 * 1024
"""Bytes of a piece that is kept as it came; shorter ones are put together."""
_WITHOUT_WAITING: int = getattr(os, "RWF_NOWAIT", 0)
"""Has the system read what it has in memory, and nothing else; 0 where it has no such flag."""
TOGETHER = 64 * 1024 * 1024
"""Bytes that all spools of a process may have in memory before each of them goes to disk but for a few; twice as many
with what is kept besides, before those are refused of which much is."""
_FEW = 64 * 1024
_MOST_AT_ONCE = 512
"""Pieces to one call of the system, which takes 1,024."""


class Spool:
    """Bytes written once, in order, and read any number of times, by range.

    `write` only takes the bytes; `drain` must be awaited after it and moves them to disk where there are many. `held`
    is how many all spools together had in memory when they were last drained, and what was kept besides.
    """

    __slots__ = (
        "_beside",
        "_closed",
        "_counted",
        "_file",
        "_in_memory",
        "_in_waiting",
        "_lock",
        "_on_disk",
        "_waiting",
    )

    held: ClassVar[int] = 0

    def __init__(self, in_memory: int) -> None:
        self._in_memory = in_memory
        self._waiting: list[bytes | bytearray | memoryview] = []
        self._in_waiting = 0
        self._counted = self._beside = 0
        self._on_disk = 0
        self._file: BinaryIO | None = None
        self._lock = threading.Lock()  # a descriptor closed during a read could be somebody else's a moment later
        self._closed = False

    @property
    def size(self) -> int:
        """How many bytes were written so far."""
        return self._on_disk + self._in_waiting

    def write(self, data: bytes | memoryview) -> None:
        """Take some bytes, which nobody changes from here on."""
        waiting = self._waiting
        self._in_waiting += len(data)
        if len(data) >= _WHOLE:
            waiting.append(data)
        elif waiting and isinstance(waiting[-1], bytearray):
            waiting[-1] += data
        else:
            waiting.append(bytearray(data))

    def keep_beside(self, size: int) -> None:
        """Count so many bytes that somebody keeps in memory for what is written here, until it is closed."""
        Spool.held += size - self._beside
        self._beside = size

    async def drain(self) -> None:
        """Move what was taken to disk if it is more than memory may hold; Unavailable if there is no room."""
        if self._beside > _FEW and Spool.held > 2 * TOGETHER:
            raise Unavailable("The gateway is at its limit of memory.", code="overloaded", retry_after=1)
        waiting = self._in_waiting
        Spool.held += waiting - self._counted
        self._counted = waiting
        most = _BATCH if self._file else self._in_memory
        if waiting > most or (waiting > _FEW and Spool.held > TOGETHER):
            await self._flush()

    async def _flush(self) -> None:
        batch, size = self._waiting, self._in_waiting
        self._waiting, self._in_waiting, self._counted = [], 0, 0
        try:
            await asyncio.to_thread(self._append, batch)
        except OSError as error:
            message = "The gateway has no room to take in a body of this size now; please try again."
            raise Unavailable(message, retry_after=5) from error
        finally:
            Spool.held -= size
        self._on_disk += size

    def _append(self, batch: Sequence[bytes | bytearray | memoryview]) -> None:
        with self._lock:
            if self._closed:
                return
            if self._file is None:
                self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `aclose`
            _write(self._file.fileno(), batch)

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `end`; ValueError once the spool is closed."""
        while start < end:
            if self._closed:
                raise ValueError("the body was freed before it was read")
            stop = min(end, start + _BATCH)
            if start < self._on_disk:
                stop = min(stop, self._on_disk)
                data = self._at_hand(start, stop - start)
                if data is None:
                    data = await asyncio.to_thread(self._read_disk, start, stop - start)
                yield data
            else:
                yield self._in_memory_now()[start - self._on_disk : stop - self._on_disk]
            start = stop

    def _in_memory_now(self) -> bytes:
        waiting = self._waiting
        if len(waiting) == 1 and isinstance(waiting[0], bytes):
            return waiting[0]
        whole = b"".join(waiting)
        self._waiting = [whole]
        return whole

    def _at_hand(self, offset: int, length: int) -> bytes | None:
        """Return bytes that the system has in memory; None where the disk, or somebody at it, would be waited for."""
        if not _WITHOUT_WAITING or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._file is None or self._closed:
                return None
            data = bytearray(length)
            read = os.preadv(self._file.fileno(), [data], offset, _WITHOUT_WAITING)
        except OSError:  # there is nothing of it in memory, or no such way to read this file
            return None
        finally:
            self._lock.release()
        return bytes(data) if read == length else None

    def _read_disk(self, offset: int, length: int) -> bytes:
        with self._lock:
            if self._file is None or self._closed:
                raise ValueError("the body was freed while it was read")
            data = os.pread(self._file.fileno(), length, offset)
        if len(data) != length:
            raise OSError(f"a temporary file lost bytes: {len(data)} of {length} at {offset}")
        return data

    async def aclose(self) -> None:
        """Free memory and file; harmless when repeated."""
        self._closed = True
        Spool.held -= self._counted + self._beside
        self._waiting, self._in_waiting, self._counted, self._beside = [], 0, 0, 0
        if self._file is not None:
            await asyncio.to_thread(self._close)

    def __del__(self) -> None:
        # Whoever forgot to close it must not have others refused; the module's names may be gone by now.
        type(self).held -= self._counted + self._beside

    def _close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _write(descriptor: int, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
    """Write all of the pieces; the system may take less than it was given."""
    left = deque(memoryview(piece) for piece in pieces)
    while left:
        written = os.writev(descriptor, list(islice(left, _MOST_AT_ONCE)))
        while left and written >= len(left[0]):
            written -= len(left.popleft())
        if left and written:
            left[0] = left[0][written:]
