"""Comparison: the answer to a request is stored beside that of its shadow."""

from __future__ import annotations

import logging
from typing import Literal, Protocol

from gateway.domain import money
from gateway.ports import Answers, Recording, Truncated
from gateway.request.exchange import Admitted
from gateway.steps.write import COST

log = logging.getLogger(__name__)


class Comparisons(Protocol):
    """Where the answers to a request and to its shadow are put beside each other."""

    def record(self, request_id: str, part: Literal["primary", "shadow"]) -> Recording:
        """Begin to store one of the two answers; `request_id` is that of the request in either case."""


async def store_primary(comparisons: Comparisons, answers: Answers, admitted: Admitted) -> None:
    """Store what the client was answered, with its cost, if the answer was kept."""
    kept = await answers.find(admitted.request_id)
    if kept is None:
        return
    cost = admitted.exchange.cost.route if admitted.exchange.cost else 0
    recording = comparisons.record(admitted.request_id, "primary")
    try:
        async for chunk in kept.chunks:
            await recording.write(chunk)
        await recording.commit(kept.status, [*kept.headers, (COST, money.format_usd(cost))])
    except Truncated:
        log.warning("the answer to request %s cannot be stored beside its shadow's", admitted.request_id)
    finally:
        await recording.discard()
