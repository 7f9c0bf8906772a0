"""Write: the headers that tell the client what was decided and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from email.utils import format_datetime

from gateway.domain import money
from gateway.domain.budget import Budget, Counted, Held, Line, Quota
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
REMEMBERED = 1024
"""Sets of lines of which it is kept where budgets and quotas stand."""
REPLAYED = ("Idempotent-Replayed", "true")
"""Says that an answer is that of an earlier request."""


def write(
    request_id: str,
    job_type: str,
    quote: Quote,
    attempts: int,
    today: Callable[[], date],
    *,
    held: Held | None = None,
    cost: int | None = None,
    arm: Arm | None = None,
) -> Headers:
    """Return the gateway's own response headers.

    `held` is None where no hold was taken, `cost` (nano-USD) where it is not known yet.
    """
    headers = [
        ("x-request-id", request_id),
        ("X-Gateway-Route", quote.route.name),
        ("X-Gateway-Job-Type", job_type),
        ("X-Gateway-Attempts", str(attempts)),
        ("X-Gateway-Cost-Estimate", money.format_usd(quote.worst.route)),
        ("Cache-Control", "no-store"),
    ]
    if arm is not None:
        headers.append(("X-Gateway-Experiment", str(arm)))
    if quote.degraded:
        headers.append(("X-Gateway-Degraded", ", ".join(f"{name}={value}" for name, value in quote.degraded.items())))
    if quote.replaced is not None:
        headers.append(("X-Gateway-Replaced", f"{quote.replaced} -> {quote.route.model.name}"))
    if cost is not None:
        headers.append((COST, money.format_usd(cost)))
    if held is not None:
        _add_remaining(headers, held)
    retires = quote.retired or quote.route.model.retires
    return headers if retires is None else headers + _retirement(retires, today())


@record(frozen=True, slots=True)
class _Places:
    """Where the figures of budgets and of quotas of images stand in a hold of these lines."""

    lines: Sequence[Line]
    budgets: tuple[int, ...]
    images: tuple[int, ...]
    limits: Mapping[int, tuple[str, str]]
    """The header that tells the limit of each quota of images."""


_places: dict[int, _Places] = {}
"""By the identity of lines, which requests that are alike share."""


def _places_of(lines: Sequence[Line]) -> _Places:
    if len(_places) >= REMEMBERED:
        _places.clear()
    rules = [line.rule for line in lines]
    budgets = tuple(2 * at for at, rule in enumerate(rules) if isinstance(rule, Budget))
    images = tuple(2 * at for at, rule in enumerate(rules) if _counts_the_clients_images(rule))
    limits = {at: ("x-ratelimit-limit-images", str(rules[at // 2].limit)) for at in images}
    known = _places[id(lines)] = _Places(lines, budgets, images, limits)
    return known


def _counts_the_clients_images(rule: Budget | Quota) -> bool:
    """Not those of a route or an account: others draw on it too, and where it is full another route serves."""
    return isinstance(rule, Quota) and rule.counted is Counted.IMAGES and not rule.scope.is_upstream


def _add_remaining(headers: list[tuple[str, str]], held: Held) -> None:
    """Add what is left of the tightest budget and of the tightest quota of images."""
    lines, figures = held.lines, held.figures
    known = _places.get(id(lines))
    if known is None or known.lines is not lines:
        known = _places_of(lines)
    if known.budgets:
        least = max(min([figures[at] for at in known.budgets]), 0)
        headers.append(("X-Gateway-Budget-Remaining", money.format_usd(least * money.NANO_PER_MICRO)))
    if known.images:
        at = known.images[0] if len(known.images) == 1 else min(known.images, key=figures.__getitem__)
        left, reset = figures[at], figures[at + 1]
        headers += (
            known.limits[at],
            ("x-ratelimit-remaining-images", str(left) if left > 0 else "0"),
            ("x-ratelimit-reset-images", f"{reset // 1000}.{str(1000 + reset % 1000)[1:]}s" if reset > 0 else "0.000s"),
        )


def _retirement(retires: date, today: date) -> list[tuple[str, str]]:
    """`Sunset` (RFC 8594) and `Deprecation` (RFC 9745, from the day on which we begin to warn)."""
    if retires - today > RETIREMENT_NOTICE:
        return []
    end = datetime.combine(retires, time.min, UTC)
    since = int((end - RETIREMENT_NOTICE).timestamp())
    return [("Sunset", format_datetime(end, usegmt=True)), ("Deprecation", f"@{since}")]
