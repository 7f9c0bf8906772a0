"""Unsent fields: which are not sent to a route's provider. It chooses the value itself, or its model takes none."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Final

from gateway.domain.job import Job
from gateway.domain.profile import Parameter, Source
from gateway.domain.route import Model, Route, SizeRule

QUALITY: Final = "quality"
SIZE: Final = "size"
ANSWER_FORM: Final = "response_format"
"""The body field that chose between images and links to them; current models refuse it."""
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


def untaken(job: Job, serves: Route, retired: Model | None) -> list[str]:
    """Name the body fields that retired models took and the route that serves does not.

    They are the job's `dropped`, and all that `retired` took, in whose place it serves, whoever the client is. A route
    takes what its model's own `legacy` lists, and what its provider's profile sends of the client's.
    """
    gone = retired.legacy.drop if retired is not None and retired.legacy is not None else ()
    named = (*job.dropped, *gone)
    if not named:
        return []
    own, profile = serves.model.legacy, serves.provider.profile
    takes = {*profile.rename, *(each.client_field for each in profile.parameters), *(own.drop if own else ())}
    return [name for name in named if name not in takes or name == ANSWER_FORM]


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
