"""Unsent fields: which job fields are not sent to a route's provider, which then chooses the value itself."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from gateway.domain.job import Job
from gateway.domain.profile import Parameter, Source
from gateway.domain.route import Route, SizeRule

QUALITY: Final = "quality"
SIZE: Final = "size"
NOTHING_LEFT_OUT: Final[frozenset[str]] = frozenset()
_WHOLE_SIZES: Final = (
    frozenset({Source.SIZE}),
    frozenset({Source.WIDTH, Source.HEIGHT}),
    frozenset({Source.RATIO, Source.RESOLUTION}),
)
"""Sources that say all of a size between them."""


def unsent(job: Job, route: Route) -> frozenset[str]:
    """Return which of `quality` and `size` the route's provider is not told of this job."""
    profile = route.provider.profile
    if profile.parameters:
        sent = [each for each in profile.parameters if each.is_sent(job.operation, job.mask, route.upstream_model)]
        told = {QUALITY: _tells(sent, QUALITY, Source.QUALITY), SIZE: _tells_size(sent, route.capabilities.sizes)}
        return frozenset(name for name, is_told in told.items() if not is_told)
    if not profile.drop and not profile.rename:
        return NOTHING_LEFT_OUT
    # Under the other name of a field that is renamed, what the client wrote there says something else.
    taken = {other for name, other in profile.rename.items() if name != other}
    return frozenset({QUALITY, SIZE}) & taken.union(profile.drop)


def _tells(sent: Iterable[Parameter], name: str, source: Source) -> bool:
    return any(each.source is source or each.client_field == name for each in sent)


def _tells_size(sent: list[Parameter], rule: SizeRule) -> bool:
    sources = {each.source for each in sent}
    if any(whole <= sources for whole in _WHOLE_SIZES) or _tells(sent, SIZE, Source.SIZE):
        return True
    return Source.RATIO in sources and _one_of_each_ratio(rule)


def _one_of_each_ratio(rule: SizeRule) -> bool:
    if rule.fixed:
        return len({Fraction(size.width, size.height) for size in rule.fixed}) == len(rule.fixed)
    return rule.tiers is not None and len(rule.tiers.resolutions) == 1
