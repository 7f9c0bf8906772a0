"""Wrong keys: who sends too many of them is told so, and costs nothing more than that.

Keys have 178 random bits, so nobody finds one by trying. What is bounded here is noise: a client that repeats a dead
key for ever, or somebody who scans. A right key is served whatever else comes from its address, so that nobody can
lock out those who share one.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from starlette.types import Scope

from gateway.domain.errors import GatewayError, InvalidApiKey, RateLimited
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

    def note(self, scope: Scope, headers: Mapping[str, str]) -> float | None:
        """Count one; return the seconds after which its sender may try again, None while it may at once."""
        if not self._most:
            return None
        address, now = self._callers.address(scope, headers), self._clock()
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

    def judge(self, context: RequestContext, error: InvalidApiKey) -> GatewayError:
        """Return what to answer a refused key with: RateLimited once too many were sent, else the refusal itself."""
        sent = "authorization" in context.headers or "api-key" in context.headers
        wait = self.note(context.scope, context.headers) if sent and error.code == InvalidApiKey.default_code else None
        if wait is None:
            return error
        message = "Too many wrong keys came from your address; check the key, and try again in a minute."
        return RateLimited(message, code=CODE, retry_after=wait, should_retry=False)
