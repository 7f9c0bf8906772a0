"""Noticing that a client hangs up while the gateway still works for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from gateway.domain.errors import ClientGone
from gateway.web.context import RequestContext

Result = TypeVar("Result")


class ClientWatch:
    """Ends the wait for an answer once the client is gone. `begin` it when the request's body was read."""

    def __init__(self, context: RequestContext) -> None:
        self._context = context
        self._waiter: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._hung_up = False

    def begin(self) -> None:
        """Watch from now on: nothing but the end of the connection is expected any more."""
        self._watch = asyncio.create_task(self._context.client_gone())
        self._watch.add_done_callback(self._left)

    async def until_gone(self, work: Awaitable[Result]) -> Result:
        """Return what `work` gives; it is cancelled, and ClientGone raised, if the client hangs up first."""
        self._waiter = waiter = asyncio.current_task()
        assert waiter is not None
        try:
            return await work
        except asyncio.CancelledError as cancelled:
            if self._hung_up and waiter.uncancel() == 0:
                raise ClientGone("The client hung up before its answer came.") from cancelled
            raise
        finally:
            self._waiter = None
            if self._watch is not None:
                self._watch.cancel()

    def _left(self, watch: asyncio.Task[None]) -> None:
        if watch.cancelled() or watch.exception() is not None:
            return
        if self._waiter is not None:
            self._hung_up = True
            self._waiter.cancel()
