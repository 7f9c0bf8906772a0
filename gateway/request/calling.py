"""Calling: a quote as a call of its provider, and the likeliest one made ready while the hold on it is under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.domain.retry import RetryBudgets
from gateway.domain.route import Quote
from gateway.ports.provider import Call, Provider
from gateway.request.exchange import Admitted
from gateway.request.part_repeats import repeats_for
from gateway.steps.send import prepare


class PreparedCall:
    """What makes a call ready before its hold is there, if it is called then; `call` is None until it was.

    Nothing of it is sent, and it holds nothing but memory: to forget it is to be done with it.
    """

    __slots__ = ("_admitted", "_providers", "call", "quote")

    def __init__(self, admitted: Admitted, quote: Quote, providers: Mapping[str, Provider]) -> None:
        self._admitted = admitted
        self._providers = providers
        self.quote = quote
        self.call: Call | None = None

    def __call__(self) -> None:
        """Make it ready."""
        self.call = call = call_of(self._admitted, self.quote)
        prepare(self._providers, call)


def suits(admitted: Admitted, quote: Quote) -> bool:
    """Tell whether a call can be made ready ahead: a short one that goes as it is, once it is held.

    Others read their bodies from disk, make several calls of one, or ask somebody else before they leave.
    """
    exchange = admitted.exchange
    if admitted.body.likeness is None:  # what has one is short, and in memory
        return False
    return exchange.task is None and exchange.links is None and quote.calls == 1 and quote.batch is None


def call_of(
    admitted: Admitted, quote: Quote, budgets: RetryBudgets | None = None, gone: Callable[[], bool] = lambda: False
) -> Call:
    """Return the call of a quote.

    `budgets` are those that it may be repeated on, if it is several; `gone` tells that nobody waits for that any more.
    """
    exchange, repeats = admitted.exchange, None
    if quote.calls > 1 and budgets is not None:
        repeats = repeats_for(quote, admitted.job_type.retry, budgets, gone)
    return Call(  # by place, for which Python takes half the time
        exchange.inbound.request_id,
        quote.route,
        quote.job,
        admitted.body,
        quote.changes,
        quote.calls,
        quote.as_events,
        exchange.links,
        0,  # all of it, and no part
        exchange.uploads,
        exchange.task.submissions if exchange.task is not None else None,
        exchange.archive,
        exchange.converter,
        quote.batch,
        repeats,
    )
