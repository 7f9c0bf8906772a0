"""What a provider lets an account do: limits written out, or a tier that has them all, with some written over."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config.documents import Kind, Node, Value
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.problems import Report
from gateway.config.schema import LIMITS, TIER
from gateway.config.sources import Entry
from gateway.config.values import whole
from gateway.domain.route import RouteLimits

_limit = whole(1, 10**9)


def read_tier(_: str, entry: Entry, report: Report) -> RouteLimits:
    """Read one entry of the `tiers` section."""
    fields = Fields(entry.node, TIER, report, entry.place)
    limits = _limits(fields.read)
    if fields.lacks(*TIER.known):
        report.problem(fields.place, f"sets no limit; give one of {', '.join(TIER.known)}")
    return limits


def read_limits(owner: Fields, tiers: Known[RouteLimits]) -> RouteLimits:
    """Read the `limits` of a route or a provider; what stands beside `tier` counts instead of the tier's own."""
    fields = owner.within("limits", LIMITS)
    if fields is None:
        return RouteLimits()

    def tier(node: Node, report: Report) -> RouteLimits | None:
        if isinstance(node, Value) and node.kind is Kind.INT:
            report.problem(
                node.place, f"a tier is one of {', '.join(sorted(tiers.things))}, not the number {node.text}"
            )
            return None
        return tiers.find(node, report)

    base = fields.read("tier", tier) or RouteLimits()
    own = _limits(fields.read)
    return RouteLimits(
        images_per_minute=own.images_per_minute or base.images_per_minute,
        images_per_day=own.images_per_day or base.images_per_day,
        requests_per_minute=own.requests_per_minute or base.requests_per_minute,
        concurrent=own.concurrent or base.concurrent,
        tokens_per_minute=own.tokens_per_minute or base.tokens_per_minute,
    )


def _limits(read: Callable[..., int | None]) -> RouteLimits:
    return RouteLimits(
        images_per_minute=read("images_per_minute", _limit),
        images_per_day=read("images_per_day", _limit),
        requests_per_minute=read("requests_per_minute", _limit),
        concurrent=read("concurrent", _limit),
        tokens_per_minute=read("tokens_per_minute", _limit),
    )
