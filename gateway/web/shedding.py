"""Shedding load: what is beyond one process's capacity is refused at the door, before its body is read."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import Unavailable
from gateway.web.context import RequestContext
from gateway.web.limits import MIB

log = logging.getLogger("gateway.web")

REQUESTS: Final = "requests"
BODIES: Final = "bodies"
MEMORY: Final = "memory"
ALWAYS: Final = frozenset({"/healthz", "/readyz"})
"""Paths that are answered all the same: who asks wants to know whether the process lives."""
_SAMPLED: Final = 0.25
"""Seconds for which a look at the memory holds."""
_FEW: Final = 8
"""Requests at once that memory never stands in the way of: a process may keep what it once used."""
_LOG_SECONDS: Final = 10.0
_WORDS: Final = {
    REQUESTS: "its limit of requests in flight",
    BODIES: "its limit of request bodies in flight",
    MEMORY: "its limit of memory",
}


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one process takes on at once. Sizes are bytes."""

    requests: int = 10_000
    bodies: int = 4096 * MIB
    """Of all request bodies being read or kept for requests in flight, most of them on disk."""
    memory: int = 0
    """Resident in this process; 0 is no bound."""


class Shedding:
    """Counts what is being served; raises Unavailable for what it refuses.

    `told` is called with `requests`, `bodies` or `memory` for each request refused, `resident` returns how many bytes
    of memory the process has.
    """

    def __init__(
        self,
        capacity: Capacity,
        told: Callable[[str], None] = lambda _: None,
        resident: Callable[[], int] = lambda: 0,
    ) -> None:
        self._capacity = capacity
        self._told = told
        self._resident = resident
        self.requests = 0
        self.bodies = 0
        self._look_again = 0.0
        self._short_of_memory = False
        self._log_again = 0.0
        self._unsaid = 0

    def enter(self, context: RequestContext) -> None:
        """Count a request until it leaves, or raise Unavailable."""
        if self.requests >= self._capacity.requests:
            raise self._refused(REQUESTS)
        if self._capacity.memory and self.requests >= _FEW:
            if context.received >= self._look_again:
                self._look_again = context.received + _SAMPLED
                self._short_of_memory = self._resident() >= self._capacity.memory
            if self._short_of_memory:
                raise self._refused(MEMORY)
        context.claim = self._claim
        self.requests += 1

    def leave(self, context: RequestContext) -> None:
        """Count it, and its body, no more."""
        self.requests -= 1
        self.bodies -= context.claimed

    def _claim(self, size: int) -> None:
        """Make room for so many bytes of a body; one body alone always has it."""
        if self.bodies and self.bodies + size > self._capacity.bodies:
            raise self._refused(BODIES)
        self.bodies += size

    def _refused(self, reason: str) -> Unavailable:
        self._told(reason)
        self._unsaid += 1
        now = time.monotonic()
        if now >= self._log_again:
            self._log_again = now + _LOG_SECONDS
            fields = {"reason": reason, "refused": self._unsaid, "in_flight": self.requests, "body_bytes": self.bodies}
            log.warning("overloaded", extra={"fields": fields})
            self._unsaid = 0
        return Unavailable(f"The gateway is at {_WORDS[reason]}.", code="overloaded", retry_after=1)
