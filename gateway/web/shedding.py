"""Shedding load: what is beyond one process's capacity is refused at the door, before its body is read."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.domain.errors import Unavailable
from gateway.steps.authenticate import sent_key
from gateway.web.context import RequestContext
from gateway.web.limits import KIB, MIB
from gateway.web.turn import Turn

log = logging.getLogger("gateway.web")

REQUESTS: Final = "requests"
BODIES: Final = "bodies"
MEMORY: Final = "memory"
ALWAYS: Final = frozenset({"/healthz", "/readyz"})
"""Paths that are answered all the same: who asks wants to know whether the process lives."""
_SAMPLED: Final = 0.25
"""Seconds for which a look at the memory holds."""
_GIVEN_BACK: Final = 1.0
"""Seconds between two attempts to have free memory given back: they take time, and may help nothing."""
_FEW: Final = 8
"""Requests at once that memory never stands in the way of: a process may keep what it once used."""
_LOG_SECONDS: Final = 10.0
_WORDS: Final = {
    REQUESTS: "its limit of requests in flight",
    BODIES: "its limit of request bodies in flight",
    MEMORY: "its limit of memory",
}


@dataclass(frozen=True, slots=True)
class ProcessLimits:
    """What one process takes on at once. Sizes are bytes."""

    requests: int = 10_000
    bodies: int = 4096 * MIB
    """Of all request bodies being read or kept for requests in flight that are not small, most of them on disk. One key
    takes half of it at most, for a length that is announced takes room before anything comes."""
    small: int = 64 * KIB
    """Of one body that always has room and takes none of it, so that uploads stand in the way of uploads alone."""
    memory: int = 0
    """Resident in this process; 0 is no bound."""


class Shedding:
    """Counts what is being served; raises Unavailable for what it refuses.

    `told` is called with `requests`, `bodies` or `memory` for each request refused, `resident` returns how many bytes
    of memory the process has, `give_back` lets go of those that it does not use.
    """

    def __init__(
        self,
        capacity: ProcessLimits,
        told: Callable[[str], None] = lambda _: None,
        resident: Callable[[], int] = lambda: 0,
        give_back: Callable[[], None] = lambda: None,
    ) -> None:
        self._capacity, self._small = capacity, capacity.small
        self._told = told
        self._resident = resident
        self._give_back = give_back
        self.requests = 0
        self.bodies = 0
        self._large = 0
        self._by_key: dict[str, int] = {}
        """Bytes of bodies in flight that are not small, as of all together in `_large`."""
        self._look_again = self._give_back_again = 0.0
        self._short_of_memory = False
        self._refusals: Counter[str] = Counter()
        """By reason, those that the log was not told of."""
        self._silent = False
        """Whether the last line is less than ten seconds old."""

    def enter(self, context: RequestContext) -> None:
        """Count a request until it leaves, or raise Unavailable."""
        if self.requests >= self._capacity.requests:
            raise self._refused(REQUESTS)
        if self._capacity.memory and self.requests >= _FEW:
            if context.received >= self._look_again:
                self._look_again = context.received + _SAMPLED
                self._short_of_memory = self._is_short(context.received)
            if self._short_of_memory:
                raise self._refused(MEMORY)
        context.claim = self._claim
        self.requests += 1

    def _is_short(self, now: float) -> bool:
        """Whether it has too much memory, what a busy time left free not counted."""
        limit = self._capacity.memory
        if self._resident() >= limit and now >= self._give_back_again:
            self._give_back_again = now + _GIVEN_BACK
            self._give_back()
        return self._resident() >= limit

    def leave(self, context: RequestContext) -> None:
        """Count it, and its body, no more."""
        self.requests -= 1
        self.bodies -= context.claimed
        if context.claimed > self._small:
            key = sent_key(context.headers)
            self._large -= context.claimed
            self._by_key[key] -= context.claimed
            if not self._by_key[key]:
                del self._by_key[key]

    def _claim(self, turn: Turn, size: int) -> None:
        """Make room for so many more bytes of a body."""
        whole = turn.claimed + size
        if whole > self._small:
            self._claim_large(turn, whole)
        self.bodies += size
        turn.claimed = whole

    def _claim_large(self, turn: Turn, whole: int) -> None:
        """Make room for a body that is now this large; one body alone always has it."""
        key, room = sent_key(turn.headers), self._capacity.bodies
        before = turn.claimed if turn.claimed > self._small else 0
        beside, others = self._by_key.get(key, 0) - before, self._large - before
        if others and others + whole > room:
            raise self._refused(BODIES)
        if beside and beside + whole > room // 2:
            raise self._refused(BODIES, "This key's requests take half of the gateway's room for bodies.")
        self._by_key[key], self._large = beside + whole, others + whole

    def _refused(self, reason: str, message: str | None = None) -> Unavailable:
        self._told(reason)
        self._refusals[reason] += 1
        if not self._silent:
            self._say()
        return Unavailable(message or f"The gateway is at {_WORDS[reason]}.", code="overloaded", retry_after=1)

    def _say(self) -> None:
        """Log what was refused, a line for each reason, and again in ten seconds what is refused until then."""
        self._silent = bool(self._refusals)
        if self._silent:
            asyncio.get_running_loop().call_later(_LOG_SECONDS, self._say)
        self.close()

    def close(self) -> None:
        """Log what was refused and is in no line yet: nobody will be there in ten seconds."""
        for reason, refused in self._refusals.items():
            fields = {"reason": reason, "refused": refused, "in_flight": self.requests, "body_bytes": self.bodies}
            log.warning("overloaded", extra={"fields": fields})
        self._refusals.clear()
