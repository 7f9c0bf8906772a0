"""Retry: how long to wait before a call is repeated, and how many calls beyond the first a provider is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime

BACKOFF_BASE, BACKOFF_CAP = 0.5, 8.0
"""Seconds: the longest first pause, and the longest of all; they are those of the OpenAI SDKs."""
JITTER = 0.1
"""By what part a wait that others are told too is lengthened at most, so that they don't all come back at once."""


def backoff(repeat: int, draw: Callable[[], float]) -> float:
    """Return the seconds to wait before the repeat of this number, from 1: exponential with full jitter.

    `draw` returns a number from 0 to 1.
    """
    return min(BACKOFF_BASE * 2.0 ** (repeat - 1), BACKOFF_CAP) * draw()


def jittered(seconds: float, draw: Callable[[], float]) -> float:
    """Return a wait that is never shorter, and a little longer by chance."""
    return seconds * (1.0 + JITTER * draw())


_SECONDS = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


def retry_after_seconds(value: str, now: float) -> float | None:
    """Return the seconds that a `retry-after` (seconds or a date) asks for, at `now` (Unix); None if it says neither.

    Never below 0; whoever waits sets the bound above.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        return float(value)
    try:
        date = parsedate_to_datetime(value)
        moment = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(float(math.ceil(moment - now)), 0.0)


@dataclass(slots=True)
class RetryBudget:
    """How many further calls (repeats, and fallbacks from elsewhere) one provider may be sent by this process.

    A token bucket. A further call that fails costs a token; a call that succeeds, first or further, earns a fifth of
    one. So at most one call in six is a failed further one, and where everything fails, first calls are all that is
    left once the bucket is empty. A further call under way reserves its token until its outcome is known.

    While more than half of the tokens are there the provider is taken to be well, and a request that comes from another
    provider needs no reservation: images take minutes, and hundreds may have to move at once when their provider dies.
    Repeats at the provider that has just failed always reserve. A token is also earned every few seconds, since a
    provider that is only ever fallen back to could otherwise never show that it is well again.
    (The fifth is Envoy's and Finagle's, the trickle is Finagle's, the half is gRPC's; all three bound retries so.)
    """

    CAP = 20.0
    """Tokens, full at first: what a short fault of one provider may cost in further calls."""
    EARNED = 0.2
    PER_SECOND = 0.2

    clock: Callable[[], float]
    """Seconds of a monotonic clock."""
    _tokens: float = field(init=False, default=CAP)
    _reserved: int = field(init=False, default=0)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._at = self.clock()

    def reserve(self, *, repeat: bool) -> bool:
        """Reserve a token for a further call and return True, or False if there is none.

        `repeat` tells that this request has failed at this provider before. `release` ends the reservation.
        """
        self._refill()
        if (repeat or self._tokens <= self.CAP / 2) and self._tokens - self._reserved < 1:
            return False
        self._reserved += 1
        return True

    def release(self) -> None:
        """End a reservation."""
        self._reserved -= 1

    def succeeded(self) -> None:
        """Take note of a call, first or further, that the provider answered."""
        self._tokens = min(self._tokens + self.EARNED, self.CAP)

    def failed(self) -> None:
        """Take note of a further call that failed."""
        self._tokens = max(self._tokens - 1, 0.0)

    def _refill(self) -> None:
        now = self.clock()
        self._tokens = min(self._tokens + max(now - self._at, 0.0) * self.PER_SECOND, self.CAP)
        self._at = now


class RetryBudgets:
    """The budgets of all providers, by name; one object per process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._budgets: dict[str, RetryBudget] = {}

    def of(self, provider: str) -> RetryBudget:
        """Return a provider's budget, a full one if it has none yet."""
        if provider not in self._budgets:
            self._budgets[provider] = RetryBudget(self._clock)
        return self._budgets[provider]
