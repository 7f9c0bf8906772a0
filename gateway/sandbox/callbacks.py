"""Calling clients back: real POSTs to the address that they gave, tried again as the provider would."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp

from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.work import Work

_AT_ONCE = 200
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted; `forged` is shown by the control plane alone."""

    body: bytes
    headers: Mapping[str, str]
    forged: bool = False


Compose = Callable[[], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that one try may take, and the waits before each further try."""

    timeout: float
    waits: tuple[float, ...] = ()


class Callbacks:
    """All calls back of one sandbox, each a task of its own."""

    def __init__(self, options: SandboxOptions) -> None:
        self._pace = options.callback_pace
        self._running: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def post(self, work: Work, compose: Compose, patience: Patience, *, delay: float = 0.0) -> None:
        """Call back after `delay` seconds, and again until a 2xx; `compose` is asked anew for each try."""
        task = asyncio.create_task(self._deliver(work, compose, patience, delay))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def attempt(self, work: Work, message: Message, patience: Patience) -> bool:
        """Call back once; say whether a 2xx came. Redirects are not followed."""
        called: dict[str, object] = {"at": time.time(), "forged": message.forged}
        work.calls.append(called)
        limit = aiohttp.ClientTimeout(total=patience.timeout)
        try:
            async with (
                self._slots,
                aiohttp.ClientSession(timeout=limit) as session,
                session.post(
                    str(work.callback_url), data=message.body, headers=message.headers, allow_redirects=False
                ) as response,
            ):
                called["status"] = response.status
                return response.status in _SUCCESS
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            called["error"] = type(error).__name__
            return False

    def clear(self) -> None:
        """Give up everything that is under way."""
        for task in self._running:
            task.cancel()

    async def _deliver(self, work: Work, compose: Compose, patience: Patience, delay: float) -> None:
        await asyncio.sleep(delay)
        for wait in (*patience.waits, None):
            if await self.attempt(work, await compose(), patience) or wait is None:
                return
            await asyncio.sleep(wait * self._pace)
