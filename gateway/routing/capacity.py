"""Capacity: what providers say of their accounts' limits, learned from every answer and refusal of this process.

A route whose account says that nothing is left rests until the limit is reset; one that was refused with 429, for as
long as that said. A limit that the provider names, lower than policy's, counts in its place. All of it is forgotten
after ten minutes in which no answer confirmed it.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.domain.budget import Counted, Quota
from gateway.domain.route import ProviderConfig, Quote, Route
from gateway.ports.provider import UpstreamFailure
from gateway.steps.reserve import limits_of

FORGOTTEN = 600.0
"""Seconds without confirmation; also the longest rest."""
UNSAID = 1.0
"""Seconds that a route rests after a 429 that does not say how long."""

_IMAGES = ("images", "input-images")
"""Limits on images, the one that tells most of those to be made first; some vendors name the second alone."""
_NAMES = dict.fromkeys(_IMAGES, Counted.IMAGES) | {"requests": Counted.REQUESTS, "tokens": Counted.TOKENS}
"""What the headers count, by what they call it after `x-ratelimit-limit-` and the like."""
_WHOLE = re.compile(r"[0-9]{1,15}", re.ASCII)
_NUMBER = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_SPAN = re.compile(
    rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?!s))?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?|{_NUMBER}", re.ASCII
)
_UNITS = (86_400.0, 3600.0, 60.0, 1.0, 0.001, 1.0)


@dataclass(slots=True)
class _Said:
    """One limit of an account, `at` a time of the clock; `until` is when it is reset."""

    limit: int | None
    left: int | None
    until: float
    at: float


@dataclass(slots=True)
class _Known:
    """What is known of a route's account; `said` by the name of the limit."""

    said: dict[str, _Said] = field(default_factory=dict)
    refused_until: float = 0.0


class Capacity:
    """What this process knows of the accounts behind its routes. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._routes: dict[str, _Known] = {}
        self._tight: set[str] = set()
        """Routes whose account said that nothing is left, or refused, until `trouble` finds that to be over."""
        self._accounts: dict[str, ProviderConfig] | None = None
        """Those of the policy's routes; None as long as it is the first one, under which none is another's."""

    def learn(self, route: str, headers: Mapping[str, str]) -> None:
        """Take note of `x-ratelimit-*` headers, names in lower case; what cannot be read is passed over."""
        if not headers:
            return
        now = self._clock()
        for name in _NAMES:
            limit, left = (_whole(headers.get(f"x-ratelimit-{what}-{name}", "")) for what in ("limit", "remaining"))
            if limit is not None or left is not None:
                span = seconds(headers.get(f"x-ratelimit-reset-{name}", ""))
                until = now + min(span or 0.0, FORGOTTEN)
                known = self._routes.setdefault(route, _Known())
                known.said[name] = _Said(limit, left, until, now)
                if left == 0:
                    self._tight.add(route)

    def refused(self, route: str, retry_after: float | None) -> None:
        """Take note of a 429; `retry_after` is seconds, if it said."""
        rest = UNSAID if retry_after is None else min(retry_after, FORGOTTEN)
        known = self._routes.setdefault(route, _Known())
        known.refused_until = max(known.refused_until, self._clock() + rest)
        self._tight.add(route)

    def learn_of(self, route: str, failures: Sequence[UpstreamFailure]) -> None:
        """Take note of what calls that failed were told."""
        for failure in failures:
            self.learn(route, failure.rate_limits)
            if failure.reason == "status_429":
                self.refused(route, failure.retry_after)

    def rest_until(self, route: str, *, images: int = 1, tokens: int = 1) -> float:
        """Return when, by the clock, the route's account has room for so much; 0 if nothing speaks against now."""
        known = self._routes.get(route)
        if known is None:
            return 0.0
        wanted = {Counted.IMAGES: images, Counted.REQUESTS: 1, Counted.TOKENS: max(tokens, 1)}
        resets = (said.until for name, said in known.said.items() if _short(said, wanted[_NAMES[name]]))
        until = max(known.refused_until, *resets, 0.0)
        return until if until > self._clock() else 0.0

    def is_of_now(self, route: Route) -> bool:
        """Whether a call to this says something of what calls by the route's name meet now: not once it was moved."""
        if self._accounts is None:
            return True
        account = self._accounts.get(route.name)
        return account is route.provider or account == route.provider

    def knows(self, route: str) -> bool:
        """Whether anything is known of a route's account."""
        return route in self._routes

    def rests(self, quote: Quote) -> float:
        """Return `rest_until` for what a quote needs."""
        if quote.route.name not in self._routes:
            return 0.0
        return self.rest_until(quote.route.name, images=quote.job.n, tokens=quote.tokens)

    def tight(self) -> Collection[str]:
        """Return the routes whose accounts may have no room now."""
        return self._tight

    def trouble(self, route: str) -> str | None:
        """Say that a route's account has no room now, in words; None if it may have."""
        if route not in self._tight:
            return None
        until = self.rest_until(route)
        if not until:
            self._tight.discard(route)
            return None
        return f"is at its provider's limit for {math.ceil(until - self._clock())} s"

    def adopt(self, before: Mapping[str, Route], after: Mapping[str, Route]) -> None:
        """Forget the routes that are gone under a new policy, or call another account or model now."""
        self._accounts = {name: route.provider for name, route in after.items()}
        kept = {name for name, route in after.items() if callee(before.get(name)) == callee(route)}
        self._routes = {name: known for name, known in self._routes.items() if name in kept}
        self._tight &= kept

    def limits(self, route: Route) -> tuple[Quota, ...]:
        """Return the limits of a route and its account, images per minute lowered to what the provider says they are.

        Where policy sets no such limit none is added. The counters stay the same.
        """
        known = self._routes.get(route.name)
        told = self._images_per_minute(known) if known else None
        if told is None:
            return limits_of(route)
        set_by_policy = (route.limits.images_per_minute, route.provider.limits.images_per_minute)
        lowest = min((limit for limit in set_by_policy if limit is not None), default=None)
        if lowest is None or told >= lowest:
            return limits_of(route)
        return limits_of(replace(route, limits=replace(route.limits, images_per_minute=told)))

    def _images_per_minute(self, known: _Known) -> int | None:
        """What the provider lately said the limit is; one on input images counts only where it named no other."""
        said = (known.said[name] for name in _IMAGES if name in known.said)
        return next((each.limit for each in said if each.limit and self._clock() - each.at <= FORGOTTEN), None)


def seconds(text: str) -> float | None:
    """Read a span such as `120ms`, `12s`, `1m2.5s`, `6h0m3s`, or plain seconds; None for anything else."""
    match = _SPAN.fullmatch(text.strip())
    if match is None or not match[0]:
        return None
    return sum(float(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)


def _whole(text: str) -> int | None:
    text = text.strip()
    return int(text) if _WHOLE.fullmatch(text) else None


def callee(route: Route | None) -> tuple[object, ...] | None:
    """Return what is called on a route, its account and its model, to be compared."""
    return None if route is None else (route.provider, route.upstream_model)


def _short(said: _Said, wanted: int) -> bool:
    """Whether less is left than is wanted; more than the whole limit is never left, so that much is enough."""
    if said.left is None:
        return False
    return said.left < (wanted if said.limit is None else min(wanted, said.limit))
