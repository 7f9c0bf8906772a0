"""Told response: what is told of one whose work went on, once it has ended: what its hold came to, and its call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from gateway.domain.responses import ENDED
from gateway.domain.route import Views
from gateway.domain.settlement import Reading, Settlement, SettleResult
from gateway.observe.event import NONE, HoldEnded, Observer, UpstreamFailed, UpstreamFinished
from gateway.observe.hold_ends import tell_hold
from gateway.ports.responses import Remembered
from gateway.ports.wrapped import IN_ANSWER
from gateway.request.told_calls import is_error

LOST = "lost"
"""Reason of work of which its account knows nothing any more, or that does not end."""


def tell(
    observer: Observer, response: Remembered, settlement: Settlement, reading: Reading, result: SettleResult
) -> None:
    """Tell of a response that is settled now, by what its account said of it last."""
    terms: Mapping[str, Any] = response.terms or {}
    experiment, arm = terms.get("arm", (NONE, NONE))
    tell_hold(
        observer,
        HoldEnded(
            project=response.project,
            job_type=response.job_type,
            route=terms["route"],
            quality=str(settlement.facts.get("quality") or terms["job"][2]),
            cost=settlement.cost,
            estimate=Views(*terms["worst"]),
            source=settlement.source,
            images=settlement.images,
            usage=settlement.usage,
            experiment=experiment,
            arm=arm,
        ),
        result,
    )
    if not terms.get("counted"):
        observer.emit(_call(terms, reading))


def _call(terms: Mapping[str, Any], reading: Reading) -> UpstreamFailed | UpstreamFinished:
    route, since = terms["route"], terms.get("since")
    if not reading.complete or (reading.said is not None and reading.said.status not in ENDED):
        return UpstreamFailed(route, LOST)
    if is_error(reading):
        return UpstreamFailed(route, IN_ANSWER, code=reading.error or "")
    return UpstreamFinished(route, max(time.time() - since, 0.0) if isinstance(since, float) else 0.0)
