"""Noticing that a client hangs up while the gateway still works for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from gateway.domain.errors import ClientGone
from gateway.web.context import RequestContext

Result = TypeVar("Result")


class ClientWatch:
    """Ends what is done for a client once that is gone. `begin` it when the body was read, and `end` it at last."""

    def __init__(self, context: RequestContext) -> None:
        self._context = context
        self._waiter: asyncio.Task[object] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._gone = False

    def begin(self) -> None:
        """Watch from now on: nothing but the end of the connection is expected any more."""
        if self._watch is not None:
            return
        self._watch = asyncio.create_task(self._context.client_gone())
        self._watch.add_done_callback(self._left)

    async def until_gone(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Return what `work` gives; it is cancelled, and ClientGone raised, if the client hangs up first."""
        if self._gone:
            work.close()
            raise _gone()
        self._waiter = waiter = asyncio.current_task()
        assert waiter is not None
        try:
            return await work
        except asyncio.CancelledError as cancelled:
            if self._gone and waiter.uncancel() == 0:
                raise _gone() from cancelled
            raise
        finally:
            self._waiter = None

    def end(self) -> None:
        """Watch no longer."""
        if self._watch is not None:
            self._watch.cancel()

    def _left(self, watch: asyncio.Task[None]) -> None:
        if watch.cancelled() or watch.exception() is not None:
            return
        if self._context.answer_ended:
            return  # which looks the same: there is nothing left to come
        self._gone = True
        if self._waiter is not None:
            self._waiter.cancel()


def _gone() -> ClientGone:
    return ClientGone("The client hung up before its answer came.")
