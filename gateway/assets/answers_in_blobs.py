"""Answers in a storage that gateways of several machines share: a body and a small head, for whoever repeats a request.

An answer is on this machine's disk while it goes by, and put in the storage once it is whole: the body first, then the
head that makes it findable.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from http import HTTPStatus

from gateway.assets.answers import checked_id
from gateway.domain.errors import Unavailable
from gateway.ports import Headers, Outbound, Truncated
from gateway.ports.storage import Blob, Blobs, StorageUnavailable
from gateway.spool import Spool

log = logging.getLogger(__name__)

FOLDER = "answers"
COMMIT_SECONDS = 10.0
"""The longest that a client waits for its answer to be kept."""
_IN_MEMORY = 256 * 1024
_LONGEST_HEAD = 64 * 1024


class AnswersInBlobs:
    """Implements `ports.Answers`."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def record(self, request_id: str) -> BlobRecording:
        """Begin to keep the answer of a request; ValueError for an id that is none of ours."""
        return BlobRecording(self._blobs, checked_id(request_id))

    async def find(self, request_id: str) -> Outbound | None:
        """Return a kept answer, body and headers as they were; None if there is none, or none that can be read."""
        name = checked_id(request_id)
        try:
            head = await self._blobs.get(f"{FOLDER}/{name}/head")
            if head is None or head.length > _LONGEST_HEAD:
                return None
            told = json.loads(b"".join([chunk async for chunk in head.chunks(0, head.length)]))
            body = await self._blobs.get(f"{FOLDER}/{name}/body")
        except StorageUnavailable as error:
            log.warning("the kept answer of %s cannot be read: %s", name, error)
            return None
        if body is None or body.length != told["length"]:
            return None
        headers = [(str(key), str(value)) for key, value in told["headers"]]
        return Outbound(HTTPStatus(told["status"]), headers, _chunks(body))


async def _chunks(body: Blob) -> AsyncIterator[bytes]:
    try:
        async for chunk in body.chunks(0, body.length):
            yield chunk
    except StorageUnavailable as error:
        log.warning("a kept answer cannot be read on: %s", error)
        raise Truncated from error


class BlobRecording:
    """Implements `ports.Recording`. No error of the disk or the storage reaches the request."""

    def __init__(self, blobs: Blobs, name: str) -> None:
        self._blobs = blobs
        self._name = name
        self._spool = Spool(_IN_MEMORY)
        self._over = False

    async def write(self, chunk: bytes) -> None:
        """Keep some bytes of the body."""
        if self._over:
            return
        self._spool.write(chunk)
        try:
            await self._spool.drain()
        except Unavailable as error:
            log.warning("the answer of %s is not kept: %s", self._name, error)
            await self.discard()

    async def commit(self, status: int, headers: Headers) -> None:
        """Make the answer findable; its body is whole."""
        if self._over:
            return
        head = {"status": status, "headers": [list(pair) for pair in headers], "length": self._spool.size}
        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                await self._blobs.put(f"{FOLDER}/{self._name}/body", self._spool.read(0, self._spool.size))
                await self._blobs.put(f"{FOLDER}/{self._name}/head", _once(json.dumps(head).encode()))
        except StorageUnavailable as error:
            log.warning("the answer of %s is not kept: %s", self._name, error)
        except TimeoutError:
            log.warning("the answer of %s is not kept: the storage is too slow", self._name)
        await self.discard()

    async def discard(self) -> None:
        """Let go of what is here; harmless after `commit`, and when repeated."""
        self._over = True
        await self._spool.aclose()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
