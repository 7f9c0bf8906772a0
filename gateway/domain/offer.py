"""Offers: quotes as far as they are the same for every prompt; what one prompt costs is worked out when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import overload

from gateway.domain import pricing
from gateway.domain.budget import Pressure
from gateway.domain.job import Job
from gateway.domain.pricing import Tariff
from gateway.domain.route import Quote


@dataclass(frozen=True, slots=True)
class Offer:
    """What a route would do. `quote` is complete but for what depends on the prompt and on who asks.

    That is `worst`, `expected`, `tokens`, and of its job the prompt, the user and the client's model. `per_call` is how
    many images one call makes; `tokens` are the most of one image besides its text, None where nobody sells it by them.
    """

    quote: Quote
    official: Tariff
    own: Tariff
    likely: Tariff
    per_call: int
    tokens: int | None

    def worst(self, prompt_bytes: int) -> int:
        """Return the most it may cost, nano-USD in the route view."""
        return self.own.nano(pricing.most_text(prompt_bytes), self.quote.job.n, self.per_call)

    def expected(self, prompt_bytes: int) -> int:
        """Return what it will probably cost, in pico-USD and not rounded: for comparing offers."""
        return self.likely.pico(pricing.likely_text(prompt_bytes), self.quote.job.n, self.per_call)

    def quoted(self, job: Job, prompt_bytes: int, multiplier: Fraction, pressure: Pressure) -> Quote:
        """Return the quote for one prompt. `job` is the quote's own, with what it lacks here."""
        told, text, n = self.quote, pricing.most_text(prompt_bytes), job.n
        own = self.own.nano(text, n, self.per_call)
        official = own if self.official is self.own else self.official.nano(text, n, self.per_call)
        likely = self.likely.nano(pricing.likely_text(prompt_bytes), n, self.per_call)
        return Quote(
            told.route,
            job,
            told.changes,
            pricing.views(official, own, multiplier),
            told.official_price,
            told.route_price,
            min(likely, own),
            0 if self.tokens is None else n * (self.tokens + text),
            told.calls,
            told.as_events,
            pressure,
            told.degraded,
            told.replaced,
            told.retired,
        )


class Quotes(Sequence[Quote]):
    """The quotes of offers for one job, in order, each made when it is looked at: most requests need a few of them."""

    __slots__ = ("_asked", "_jobs", "_made", "_multiplier", "_offers")

    def __init__(self, offers: Sequence[tuple[Offer, Pressure]], asked: Job, multiplier: Fraction) -> None:
        self._offers = offers
        self._asked = asked
        self._multiplier = multiplier
        self._made: dict[int, Quote] = {}
        self._jobs: dict[int, Job] = {}

    def __len__(self) -> int:
        return len(self._offers)

    @overload
    def __getitem__(self, at: int) -> Quote: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[Quote, ...]: ...

    def __getitem__(self, at: int | slice) -> Quote | tuple[Quote, ...]:
        places = range(len(self._offers))
        return tuple(map(self._quote, places[at])) if isinstance(at, slice) else self._quote(places[at])

    def __iter__(self) -> Iterator[Quote]:
        return map(self._quote, range(len(self._offers)))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def routes(self) -> list[str]:
        """Return the names of their routes; nothing is made for it."""
        return [offer.quote.route.name for offer, _ in self._offers]

    def _quote(self, at: int) -> Quote:
        made = self._made.get(at)
        if made is None:
            offer, pressure = self._offers[at]
            job = self._job(offer.quote.job)
            made = offer.quoted(job, self._asked.prompt_bytes, self._multiplier, pressure)
            self._made[at] = made
        return made

    def _job(self, offered: Job) -> Job:
        """The job of an offer with all that the client's own says."""
        job = self._jobs.get(id(offered))  # the offers keep it alive
        if job is None:
            asked = self._asked
            job = replace(
                offered,
                client_model=asked.client_model,
                prompt_chars=asked.prompt_chars,
                prompt_bytes=asked.prompt_bytes,
                user=asked.user,
            )
            self._jobs[id(offered)] = job
        return job


class Some(Sequence[Quote]):
    """Some of other quotes, at these places, each looked at when it is needed."""

    __slots__ = ("_all", "_places")

    def __init__(self, quotes: Sequence[Quote], places: Sequence[int]) -> None:
        self._all = quotes
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, at: int) -> Quote: ...

    @overload
    def __getitem__(self, at: slice) -> Some: ...

    def __getitem__(self, at: int | slice) -> Quote | Some:
        return Some(self._all, self._places[at]) if isinstance(at, slice) else self._all[self._places[at]]

    def routes(self) -> list[str]:
        """Return the names of their routes; nothing is made for it."""
        every = routes_of(self._all)
        return [every[place] for place in self._places]


def routes_of(quotes: Sequence[Quote]) -> list[str]:
    """Return the name of the route of each quote, in order."""
    return quotes.routes() if isinstance(quotes, Quotes | Some) else [quote.route.name for quote in quotes]
