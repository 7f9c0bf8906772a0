"""Write: the headers that tell the client what was decided and what it costs."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from email.utils import format_datetime

from gateway.domain import money
from gateway.domain.budget import Budget, Counted, Held
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
        headers += _remaining(decision.held)
    return headers + _retirement(decision.quote.retired or decision.quote.route.model.retires, today)


def _remaining(held: Held) -> list[tuple[str, str]]:
    least, tightest, images, reset = None, None, 0, 0
    for line, left, turns in zip(held.lines, held.figures[0::2], held.figures[1::2], strict=True):
        rule = line.rule
        if isinstance(rule, Budget):
            least = left if least is None or left < least else least
        elif rule.counted is Counted.IMAGES and (tightest is None or left < images):
            tightest, images, reset = rule, left, turns
    headers: list[tuple[str, str]] = []
    if least is not None:
        headers.append(("X-Gateway-Budget-Remaining", money.format_usd(max(least, 0) * money.NANO_PER_MICRO)))
    if tightest is not None:
        headers += [
            ("x-ratelimit-limit-images", str(tightest.limit)),
            ("x-ratelimit-remaining-images", str(max(images, 0))),
            ("x-ratelimit-reset-images", f"{max(reset, 0) / 1000:.3f}s"),
        ]
    return headers


def _retirement(retires: date | None, today: date) -> list[tuple[str, str]]:
    """`Sunset` (RFC 8594) and `Deprecation` (RFC 9745, from the day on which we begin to warn)."""
    if retires is None or retires - today > RETIREMENT_NOTICE:
        return []
    end = datetime.combine(retires, time.min, UTC)
    since = int((end - RETIREMENT_NOTICE).timestamp())
    return [("Sunset", format_datetime(end, usegmt=True)), ("Deprecation", f"@{since}")]
