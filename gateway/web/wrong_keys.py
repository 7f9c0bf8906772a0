"""Wrong keys: who sends too many of them is told so, and costs nothing more than that.

Keys have 178 random bits, so nobody finds one by trying. What is bounded here is noise: a client that repeats a dead
key for ever, or somebody who scans. A right key is served whatever else comes from its address, so that nobody can
lock out those who share one.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from gateway.domain.errors import InvalidApiKey, RateLimited
from gateway.web.callers import Callers
from gateway.web.context import RequestContext

log = logging.getLogger("gateway.web")

CODE = "too_many_wrong_keys"
WINDOW_SECONDS = 60.0
MOST_ADDRESSES = 10_000
"""Of which failures are remembered; beyond it the one that was quiet for longest is forgotten."""
PER_MINUTE = 120


class WrongKeys:
    """Failures by address, of one process; `most` a minute, 0 for no bound. `clock` is monotonic seconds."""

    def __init__(
        self,
        most: int = PER_MINUTE,
        callers: Callers | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._callers = callers or Callers()
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()
        """By address: since when they are counted, and how many there were."""

    def note(self, context: RequestContext) -> float | None:
        """Count one; return the seconds after which its sender may try again, None while it may at once."""
        if not self._most:
            return None
        address, now = self._callers.address(context.scope, context.headers), self._clock()
        since, count = self._failures.pop(address, (now, 0))
        if now - since >= WINDOW_SECONDS:
            since, count = now, 0
        while len(self._failures) >= MOST_ADDRESSES:
            self._failures.popitem(last=False)
        self._failures[address] = since, count + 1
        if count < self._most:
            return None
        if count == self._most:
            log.warning("too many wrong keys from %s: %d within a minute", address, count + 1)
        return since + WINDOW_SECONDS - now

    @property
    def addresses(self) -> int:
        """How many addresses are remembered."""
        return len(self._failures)


class LimitingWrongKeys:
    """Wraps an ASGI application: its refusals of a key that was sent become 429 once there are too many."""

    def __init__(self, app: ASGIApp, wrong_keys: WrongKeys) -> None:
        self._app = app
        self._wrong_keys = wrong_keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; raises what the application raises, or RateLimited in its place."""
        try:
            await self._app(scope, receive, send)
        except InvalidApiKey as error:
            context: RequestContext = scope["state"]["context"]
            sent = "authorization" in context.headers or "api-key" in context.headers
            wait = self._wrong_keys.note(context) if sent and error.code == InvalidApiKey.default_code else None
            if wait is None:
                raise
            message = "Too many wrong keys came from your address; check the key, and try again in a minute."
            raise RateLimited(message, code=CODE, retry_after=wait, should_retry=False) from error
