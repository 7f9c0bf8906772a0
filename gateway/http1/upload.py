"""Upload: a request on its way out, head and first chunk together; it may go on while the answer comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable

import httpx

from gateway.http1.connection import Connection

MAX_WAIT = 1800.0
"""Seconds spent waiting for a slow server over a whole request; the wait for one chunk is bounded by its timeout."""


class Upload:
    """One request. `length` is that of the body in bytes, None if it is sent in chunks.

    `sent` tells whether a byte was handed to the socket; `error` why it could not be written, as a class that says the
    same; `stale` that the server had hung up before; `written` is there if it goes on in the background, and done when
    all is written.
    """

    def __init__(
        self,
        connection: Connection,
        head: bytes,
        body: AsyncIterable[bytes],
        length: int | None,
        seconds: float | None,
    ) -> None:
        self._connection = connection
        self._head = head
        self._body = body
        self._length = length
        self._seconds = seconds
        self._patience = MAX_WAIT
        self.sent = False
        self._whole = False
        self.stale = False
        self.error: httpx.TransportError | None = None
        self.written: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write in the background."""
        self.written = asyncio.create_task(self.run(wait=True))
        self.written.add_done_callback(lambda _: self._connection.wake())

    def finish(self) -> bool:
        """Write no more; returns whether all was written."""
        if self.written is not None:
            self.written.cancel()
        return self._whole

    async def run(self, *, wait: bool) -> None:
        """Write all of it, waiting for a slow server if wanted; raises nothing."""
        try:
            await self._write_body(wait=wait)
            self._whole = not self.stale
        except _ServerError as error:
            self._fail(error.failure)
        except Exception as error:  # noqa: BLE001 - whatever keeps the body from being read, the request is not whole
            kind = httpx.WriteError if self.sent else httpx.ConnectError
            self._fail(kind(f"the body cannot be read: {type(error).__name__}: {error}"), error)

    async def _write_body(self, *, wait: bool) -> None:
        left = self._length
        async for chunk in self._body:
            if not chunk:
                continue
            if left is not None:
                left -= len(chunk)
                if left < 0:
                    raise ValueError("the body is longer than was said")
            await self._write(chunk if left is not None else b"%x\r\n%s\r\n" % (len(chunk), chunk), wait=wait)
            if self.stale:
                return
        if left:
            raise ValueError("the body is shorter than was said")
        end = b"" if left is not None else b"0\r\n\r\n"
        if end or not self.sent:
            await self._write(end, wait=wait)

    async def _write(self, data: bytes, *, wait: bool) -> None:
        if not self.sent:
            self.stale = await self._connection.stale()
            if self.stale:
                self._connection.abort()
                self._connection.wake()
                return
            self.sent = True
            data = self._head + data
        elif wait:
            await self._connection.stale()  # one that refuses, and resets, is to be heard before it is written to
        try:
            if not self._connection.write(data) and wait:
                await self._room()
        except TimeoutError as error:
            raise _ServerError(httpx.WriteTimeout("the server did not take the request in time")) from error
        except httpx.TransportError as error:
            raise _ServerError(error) from error

    async def _room(self) -> None:
        clock = asyncio.get_running_loop()
        began = clock.time()
        await self._connection.room(self._patience if self._seconds is None else min(self._seconds, self._patience))
        self._patience -= clock.time() - began

    def _fail(self, error: httpx.TransportError, cause: Exception | None = None) -> None:
        error.__cause__ = cause
        self.error = error
        self._connection.fail(type(error), str(error))


class _ServerError(Exception):
    """The server did not take the request, which is no fault of the body's."""

    def __init__(self, failure: httpx.TransportError) -> None:
        super().__init__()
        self.failure = failure
