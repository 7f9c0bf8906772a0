"""Callbacks: messages to clients, signed, delivered at least once, each receiver at its own speed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.domain.retry import retry_after_seconds
from gateway.domain.webhook import pause, signed_headers
from gateway.observe.event import CallbackSent, Observer
from gateway.ports import LedgerUnavailable
from gateway.ports.egress import Fetcher, Unfetchable
from gateway.ports.tasks import Callback, Callbacks

log = logging.getLogger("gateway.callbacks.sending")

SECONDS = 15.0
"""For one try."""
AT_ONCE, AT_ONCE_PER_HOST = 64, 4
IN_HAND, IN_HAND_PER_HOST = 256, 64
"""Messages taken from the store, those included that wait for their receiver to be free."""
PATIENCE_SECONDS = 10.0
"""For which a message waits so, and for room among all; with its try well below the minute until others take it."""
IDLE_SECONDS = 0.5
"""Between two looks for what is due."""
BUSY_SECONDS, MOST_BUSY_SECONDS = 5.0, 600.0
"""For which a message is put off whose receiver has enough to do: a tenth of its age, between these and up to double.
Of a hundred thousand for one silent receiver only some hundred are looked at in a second then."""
GONE = 410
"""The receiver wants no more of it (Standard Webhooks, "Deliverability and reliability")."""
BUSY = frozenset({429, 503})
"""Statuses whose `Retry-After` is obeyed (RFC 9110, section 10.2.3; RFC 6585, section 4)."""

Keys = Callable[[str], Sequence[bytes]]
"""The keys that a project's messages are signed with now, at least one."""


class CallbackSender:
    """Delivers what is due, until cancelled. `clock` is Unix seconds, `chance` from 0 to 1.

    A receiver that is slow or down holds up nobody else: no more than four messages at once are sent to one host.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        fetcher: Fetcher,
        keys: Keys,
        observer: Observer,
        *,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._callbacks = callbacks
        self._fetcher = fetcher
        self._keys = keys
        self._observer = observer
        self._clock = clock
        self._chance = chance
        self._sending: dict[asyncio.Task[None], Callback] = {}
        self._room = asyncio.Semaphore(AT_ONCE)
        self._hosts: dict[str, _Host] = {}

    async def run(self) -> None:
        """Deliver, until cancelled; what is under way then is left to be taken by others at once."""
        try:
            while True:
                if not await self.deliver_due():
                    await asyncio.sleep(IDLE_SECONDS)
        finally:
            await self._give_back()

    async def deliver_due(self) -> int:
        """Begin to deliver what is due, and return how much that was; waits while there is no room for more."""
        while len(self._sending) >= IN_HAND:
            await asyncio.wait(self._sending, return_when=asyncio.FIRST_COMPLETED)
        try:
            due = await self._callbacks.due(IN_HAND - len(self._sending))
        except LedgerUnavailable:
            return 0
        busy = [callback for callback in due if not self._begin(callback)]
        await asyncio.gather(*(self._noted(self._put_off(callback)) for callback in busy))
        return len(due)

    def _begin(self, callback: Callback) -> bool:
        """Begin with a message; False if its host has enough of them."""
        name = _host(callback.url)
        host = self._hosts.setdefault(name, _Host())
        if host.in_hand >= IN_HAND_PER_HOST:
            return False
        host.in_hand += 1
        task = asyncio.create_task(self._in_turn(callback, host))
        self._sending[task] = callback
        task.add_done_callback(lambda done: self._ended(done, name, host))
        return True

    def _ended(self, task: asyncio.Task[None], name: str, host: _Host) -> None:
        del self._sending[task]
        host.in_hand -= 1
        if not host.in_hand:
            del self._hosts[name]

    async def _in_turn(self, callback: Callback, host: _Host) -> None:
        """Deliver a message once its host is free for it and there is room, or put it off."""
        async with contextlib.AsyncExitStack() as turn:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await turn.enter_async_context(host.room)
                    await turn.enter_async_context(self._room)
            except TimeoutError:
                await self._noted(self._put_off(callback))
                return
            await self._deliver(callback)

    async def _deliver(self, callback: Callback) -> None:
        failed = await self._try(callback)
        if failed is None:
            result, note = "delivered", self._callbacks.delivered(callback)
        else:
            seconds = None if failed.final else pause(callback.tries + 1, self._chance(), failed.wait)
            result = "dead" if seconds is None else "failed"
            note = self._callbacks.failed(callback, failed.error, seconds)
        error = failed.error if failed else ""
        self._observer.emit(CallbackSent(callback.project, callback.id, result, error, callback.tries + 1))
        await self._noted(note)

    async def _try(self, callback: Callback) -> _Failed | None:
        """Post a message and return what kept it from being taken; None if it was taken."""
        keys = self._keys(callback.project)
        signed = signed_headers(keys, callback.id, int(self._clock()), callback.body)
        headers = {"content-type": "application/json", **signed}
        try:
            answer = await self._fetcher.post(callback.url, callback.body, headers, seconds=SECONDS)
        except Unfetchable as failure:
            return _Failed(f"{failure.reason}: {failure.message}")
        if answer.status // 100 == 2:  # noqa: PLR2004 - any 2xx
            return None
        asked = answer.headers.get("retry-after", "") if answer.status in BUSY else ""
        wait = retry_after_seconds(asked, self._clock())
        return _Failed(f"status {answer.status}", wait=wait, final=answer.status == GONE)

    async def _put_off(self, callback: Callback) -> None:
        seconds = min(max(BUSY_SECONDS, (self._clock() - callback.created) / 10), MOST_BUSY_SECONDS)
        await self._callbacks.put_off(callback, seconds * (1 + self._chance()))

    async def _give_back(self) -> None:
        left = dict(self._sending)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        with contextlib.suppress(LedgerUnavailable):  # they are taken by others after a minute
            for callback in left.values():
                await self._callbacks.put_off(callback, 0.0)

    async def _noted(self, note: Coroutine[object, object, None]) -> None:
        try:
            await note
        except LedgerUnavailable as error:
            log.warning("what came of a callback could not be noted, it will be sent again: %s", error)


@dataclass(frozen=True, slots=True)
class _Failed:
    """A try that failed: why, the seconds that the receiver asked to be left alone for, and whether it is the last."""

    error: str
    wait: float | None = None
    final: bool = False


@dataclass(slots=True)
class _Host:
    """A receiver: how many messages for it are in hand, and room for those that are sent."""

    in_hand: int = 0
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE_PER_HOST))


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""
