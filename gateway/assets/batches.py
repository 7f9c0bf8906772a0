"""Batches: a kept file read piece by piece, opened for each: a thousand readers need no thousand descriptors."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.ports import Truncated

log = logging.getLogger(__name__)


def read_batch(path: Path, offset: int, size: int) -> bytes:
    """Return up to `size` bytes from an offset on; raises OSError. Blocks."""
    with path.open("rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)


async def batches(path: Path, start: bytes, length: int, size: int) -> AsyncIterator[bytes]:
    """Yield a file of `length` bytes whose `start` was read already; Truncated if it cannot be read to its end."""
    chunk, sent = start, 0
    while sent < length:
        if sent:
            try:
                chunk = await asyncio.to_thread(read_batch, path, sent, size)
            except OSError as error:
                log.warning("%s cannot be read on: %s", path.name, error)
                raise Truncated from error
        if not chunk:
            raise Truncated
        sent += len(chunk)
        yield chunk
