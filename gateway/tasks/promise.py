"""Promise: what a task may cost at most, and until when it may begin, whatever policy says once it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace

from gateway.domain.errors import BudgetExceeded, GatewayError, Unavailable
from gateway.domain.route import Quote
from gateway.request.batching import holds_at_most
from gateway.request.exchange import Admitted


def promised(quotes: Sequence[Quote]) -> tuple[int, ...]:
    """Return the worst case of the dearest quote that a task was made with, in each view (nano-USD)."""
    return tuple(max(each) for each in zip(*(astuple(quote.worst) for quote in quotes), strict=True))


def within(admitted: Admitted, most: Sequence[int] | None, under_way: Quote | None = None) -> Admitted:
    """Return the request with the quotes that keep to the promise; BudgetExceeded if none does.

    None is the promise of a task that another version made: there was none. A call that is `under_way` is followed all
    the same, and where no quote keeps to the promise nothing is sent after it.
    """
    quotes = [quote for quote in admitted.ranked.quotes if holds_at_most(quote, most)]
    if not quotes and under_way is not None:
        kind = replace(admitted.job_type, retry=replace(admitted.job_type.retry, attempts=0))
        return replace(admitted, job_type=kind, ranked=replace(admitted.ranked, quotes=[under_way]))
    if not quotes:
        message = (
            "Every route has become dearer than what was held for this task when it was made; nothing was sent and "
            "nothing billed. Send the request again to take the price of now."
        )
        raise BudgetExceeded(message, code="price_changed")
    if len(quotes) == len(admitted.ranked.quotes):
        return admitted
    return replace(admitted, ranked=replace(admitted.ranked, quotes=quotes))


def expired() -> GatewayError:
    """Return the error for a task that waited for too long."""
    message = "This task could not begin within the time that it may wait (X-Gateway-Max-Wait); nothing was billed."
    return Unavailable(message, code="task_expired")
