"""Batching: which tasks may go by a provider's batches and at what price, and how they wait for one another.

A task that may waits in its queue, its money held, until enough of its kind have come or its time has. Then all of them
begin at once, and the provider's adapter puts them into one batch. Nothing else about them differs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from dataclasses import astuple, dataclass, field, replace

from gateway.domain import money
from gateway.domain.batch import BatchLine, BatchTerms, Collecting, IfLate, batch_prices
from gateway.domain.errors import UpstreamError
from gateway.domain.policy import Order
from gateway.domain.route import Quote, Views
from gateway.request.exchange import Admitted

_ENCODED = 4 / 3
"""How much longer an image is in JSON than as it was uploaded."""
_ROOM = 4096
"""Bytes of a line besides what the client sent."""


def by_batch(
    admitted: Admitted,
    max_wait: float | None,
    due: float | None = None,
    *,
    under_way: bool = False,
    most: Sequence[int] | None = None,
) -> Admitted:
    """Return the request with the quotes by which a task may be done that waits so many seconds; as it was if by none.

    With `if_late: send` what is held is the full price, since it may come to that; the quotes of a batch come first
    then, and the others after them. While it is not known when it is `due` (Unix seconds), they are what is to be held.
    For one that is `under_way` in a batch it is never too late. `most` is what may be held for it, in each view
    (nano-USD): where the full price is more, as when policy did not say `send` yet, a batch's price is held.
    Raises UpstreamError once it is too late for any batch and policy pays for nothing else.
    """
    rules = admitted.job_type.batch
    if rules is None or max_wait is None or max_wait < rules.min_wait or admitted.job.stream:
        return admitted
    quotes = admitted.ranked.quotes
    taken = [(quote, terms) for quote in quotes if (terms := _taken(quote, admitted)) is not None]
    batched = _cheaper(taken, quotes, rules, admitted, most)
    if not batched:
        return admitted
    if due is None:
        every = quotes if rules.if_late is IfLate.SEND else batched
        return replace(admitted, ranked=replace(admitted.ranked, quotes=every))
    own = [
        replace(quote, batch=quote.batch.by(due))
        for quote in batched
        if quote.batch is not None and (under_way or time.time() < due - quote.batch.terms.spare)
    ]
    if rules.if_late is IfLate.SEND:
        own += quotes
    elif not own:
        raise UpstreamError(
            "No batch did this in the time that it may wait (X-Gateway-Max-Wait), and policy pays for no other way. "
            "Nothing was billed.",
            code="batch_late",
        )
    return replace(admitted, ranked=replace(admitted.ranked, quotes=own))


def _taken(quote: Quote, admitted: Admitted) -> BatchTerms | None:
    """Return the terms on which an account would take a quote's job in a batch; None if it would not."""
    terms = quote.route.provider.batch
    if terms is None or quote.calls > 1 or quote.job.operation not in terms.endpoints:
        return None
    length = admitted.body.render({}).length
    longest = length * _ENCODED if admitted.body.encoding == "multipart" else length
    return terms if longest + _ROOM <= terms.most_bytes else None


def holds_at_most(quote: Quote, most: Sequence[int] | None) -> bool:
    """Tell whether a quote's worst case is no more than `most`, in each view (nano-USD); None is no bound."""
    return most is None or all(now <= then for now, then in zip(astuple(quote.worst), most, strict=True))


def _cheaper(
    taken: Sequence[tuple[Quote, BatchTerms]],
    quotes: Sequence[Quote],
    rules: Collecting,
    admitted: Admitted,
    most: Sequence[int] | None,
) -> list[Quote]:
    """Return the quotes of batches, but where policy wants the cheapest none that costs more than its choice."""
    send = rules.if_late is IfLate.SEND
    made = [batch_quote(quote, terms, full=send and holds_at_most(quote, most)) for quote, terms in taken]
    if admitted.job_type.order is not Order.CHEAPEST:
        return made
    return sorted((each for each in made if each.expected <= quotes[0].expected), key=lambda each: each.expected)


def batch_quote(quote: Quote, terms: BatchTerms, *, full: bool) -> Quote:
    """Return a quote as it is by batch. With `full` it holds what it would cost without."""
    official, own = batch_prices(quote.official_price, quote.route_price, terms.multiplier)
    return replace(
        quote,
        worst=quote.worst if full else _times(quote.worst, terms),
        official_price=official,
        route_price=own,
        expected=money.times(quote.expected, terms.multiplier),
        batch=BatchLine(terms),
    )


def _times(worst: Views, terms: BatchTerms) -> Views:
    official, route = money.times(worst.official, terms.multiplier), money.times(worst.route, terms.multiplier)
    # What the project pays is worked out of the route's amount, which was rounded up.
    return Views(official, route, -(-route * worst.internal // worst.route) if worst.route else 0)


@dataclass(slots=True)
class _Group:
    waiting: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)


class Gates:
    """Where tasks wait for others of their kind. One instance per process."""

    def __init__(self) -> None:
        self._groups: dict[Hashable, _Group] = {}

    async def wait(self, admitted: Admitted, created: float) -> None:
        """Wait until as many have come as policy asks for, or one of them has waited for as long as it says.

        `created` is when the task was made, in Unix seconds. Returns at once for a task that goes by no batch.
        """
        rules, quote = admitted.job_type.batch, admitted.ranked.quotes[0]
        if rules is None or quote.batch is None:
            return
        route = quote.route
        kind = (admitted.job_type.name, route.provider.name, route.upstream_model, quote.job.operation)
        group = self._groups.setdefault(kind, _Group())
        latest = created + rules.after
        if quote.batch.due is not None:
            latest = min(latest, quote.batch.due - 2 * quote.batch.terms.spare)  # or no batch is begun in time
        group.waiting += 1
        try:
            if group.waiting >= rules.requests:
                self._let_go(kind, group)
            async with asyncio.timeout(max(latest - time.time(), 0.0)):
                await group.gate.wait()
        except TimeoutError:
            self._let_go(kind, group)
        finally:
            group.waiting -= 1
            if not group.waiting:
                self._forget(kind, group)

    def _let_go(self, kind: Hashable, group: _Group) -> None:
        group.gate.set()
        self._forget(kind, group)

    def _forget(self, kind: Hashable, group: _Group) -> None:
        if self._groups.get(kind) is group:
            del self._groups[kind]
