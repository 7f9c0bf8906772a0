"""Write: the headers that tell the client what was decided and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from email.utils import format_datetime

from gateway.domain import money
from gateway.domain.budget import Budget, Counted, Held, Quota, Remaining
from gateway.domain.record import record
from gateway.domain.route import Quote
from gateway.domain.trial import Arm
from gateway.ports import Headers

RETIREMENT_NOTICE = timedelta(days=90)
COST = "X-Gateway-Cost"
"""USD that the request has cost, all attempts together."""
OF_THE_ROUTE = frozenset(
    {"X-Gateway-Route", "X-Gateway-Cost-Estimate", "X-Gateway-Degraded", "X-Gateway-Replaced", "Sunset", "Deprecation"}
)
"""Headers that tell of the route that serves."""
REPLAYED = ("Idempotent-Replayed", "true")
"""Says that an answer is that of an earlier request."""


@record(frozen=True, slots=True)
class Decision:
    """What the headers tell: the hold is None where none was taken, `cost` (nano-USD) where it is not known yet."""

    request_id: str
    job_type: str
    quote: Quote
    attempts: int
    held: Held | None = None
    cost: int | None = None
    arm: Arm | None = None


def write(decision: Decision, today: date) -> Headers:
    """Return the gateway's own response headers."""
    headers = [
        ("x-request-id", decision.request_id),
        ("X-Gateway-Route", decision.quote.route.name),
        ("X-Gateway-Job-Type", decision.job_type),
        ("X-Gateway-Attempts", str(decision.attempts)),
        ("X-Gateway-Cost-Estimate", money.format_usd(decision.quote.worst.route)),
        ("Cache-Control", "no-store"),
    ]
    if decision.arm is not None:
        headers.append(("X-Gateway-Experiment", str(decision.arm)))
    if decision.quote.degraded:
        changes = ", ".join(f"{name}={value}" for name, value in decision.quote.degraded.items())
        headers.append(("X-Gateway-Degraded", changes))
    if decision.quote.replaced is not None:
        headers.append(("X-Gateway-Replaced", f"{decision.quote.replaced} -> {decision.quote.route.model.name}"))
    if decision.cost is not None:
        headers.append((COST, money.format_usd(decision.cost)))
    if decision.held is not None:
        headers += _remaining(decision.held.remaining)
    return headers + _retirement(decision.quote.retired or decision.quote.route.model.retires, today)


def _remaining(remaining: Sequence[Remaining]) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    budgets = [left for left in remaining if isinstance(left.line.rule, Budget)]
    if budgets:
        least = min(left.left for left in budgets)
        headers.append(("X-Gateway-Budget-Remaining", money.format_usd(max(least, 0) * money.NANO_PER_MICRO)))
    images = [
        left for left in remaining if isinstance(left.line.rule, Quota) and left.line.rule.counted is Counted.IMAGES
    ]
    if images:
        tightest = min(images, key=lambda left: left.left)
        headers += [
            ("x-ratelimit-limit-images", str(tightest.line.rule.limit)),
            ("x-ratelimit-remaining-images", str(max(tightest.left, 0))),
            ("x-ratelimit-reset-images", f"{tightest.reset:.3f}s"),
        ]
    return headers


def _retirement(retires: date | None, today: date) -> list[tuple[str, str]]:
    """`Sunset` (RFC 8594) and `Deprecation` (RFC 9745, from the day on which we begin to warn)."""
    if retires is None or retires - today > RETIREMENT_NOTICE:
        return []
    end = datetime.combine(retires, time.min, UTC)
    since = int((end - RETIREMENT_NOTICE).timestamp())
    return [("Sunset", format_datetime(end, usegmt=True)), ("Deprecation", f"@{since}")]
