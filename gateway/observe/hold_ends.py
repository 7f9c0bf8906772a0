"""How the end of a hold is told, by when it came and what it cost."""

from __future__ import annotations

from dataclasses import replace

from gateway.domain.route import Views
from gateway.domain.settlement import LATE, PRESUMED, CostSource, SettleResult
from gateway.observe.event import HoldEnded, Observer


def tell_hold(observer: Observer, event: HoldEnded, result: SettleResult) -> None:
    """Tell of a hold that a settlement has ended, or of which it has corrected what was presumed."""
    observer.emit(replace(event, late=True) if result is LATE else event)


def is_unconfirmed(source: CostSource, cost: Views) -> bool:
    """Tell whether nobody knows that an amount was billed; there is none where a hold was for quotas alone."""
    return source is PRESUMED and bool(cost.official or cost.route or cost.internal)
