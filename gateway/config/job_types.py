"""Job types: what an image is for, which routes may make it, within what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from gateway.config.documents import Node
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.problems import Report, did_you_mean, shown
from gateway.config.schema import JOB_FIELDS, JOB_TYPE, MATCH, RETRY
from gateway.config.sources import Entry
from gateway.config.values import (
    Reader,
    listed,
    name,
    one_of,
    one_or_listed,
    size,
    size_or_auto,
    text,
    truth,
    usd,
    whole,
)
from gateway.domain.job import Operation, Size
from gateway.domain.policy import JobType, Match, OnUnknown, Retry
from gateway.domain.route import Capabilities, Route

_ORDER = "listed"
_LATER_ORDERS = ("cheapest", "fastest", "weighted")
_MOST_ATTEMPTS = 10
_MOST_IMAGES = 100
_FIELDS: Mapping[str, Reader[str]] = {
    "quality": name,
    "size": size,
    "background": one_of(("transparent", "opaque")),
    "output_format": name,
}
_MATCHERS: Mapping[str, Reader[str | int | bool]] = {
    "operation": one_of((Operation.GENERATE, Operation.EDIT)),
    "model": name,
    "quality": name,
    "size": size_or_auto,
    "background": one_of(("transparent", "opaque", "auto")),
    "output_format": name,
    "mask": truth,
    "stream": truth,
    "n": whole(1, _MOST_IMAGES),
    "references": whole(0, _MOST_IMAGES),
}


def read_job_type(type_name: str, entry: Entry, routes: Known[Route], report: Report) -> JobType:
    """Read one entry of the `job_types` section."""
    fields = Fields(entry.node, JOB_TYPE, report, entry.place)
    found = _routes(fields, routes)
    fields.read("order", _order)
    defaults_at, allow_at = fields.within("defaults", JOB_FIELDS), fields.within("allow", JOB_FIELDS)
    defaults = _defaults(defaults_at) if defaults_at else {}
    allow = _allow(allow_at) if allow_at else {}
    for key, value in defaults.items():
        if defaults_at and key in allow and value not in allow[key]:
            report.problem(defaults_at.at(key), f"{value} is not in allow ({', '.join(allow[key])})")
        if defaults_at and (unable := _unable(key, value, found)):
            report.problem(defaults_at.at(key), unable)
    for key, value in ((key, value) for key, values in allow.items() for value in values):
        if allow_at and (unable := _unable(key, value, found)):
            report.warn(allow_at.at(key), unable)
    maximum = fields.read("max_cost_per_image", usd)
    if maximum == 0:
        report.problem(fields.at("max_cost_per_image"), "0 would refuse every image")
    return JobType(
        name=type_name,
        routes=found or (),
        match=_match(fields, report),
        defaults=defaults,
        allow=allow,
        max_cost_per_image=maximum,
        retry=_retry(fields),
    )


def _routes(fields: Fields, routes: Known[Route]) -> tuple[Route, ...] | None:
    """Return the routes in order; None if any of them is not known or was wrong itself."""
    names = fields.required("routes", listed(routes.checked))
    if names is None or len(names) < len(fields.items("routes")):
        return None
    found = tuple(route for each in names if (route := routes.things.get(each)))
    return found if len(found) == len(names) else None


def _order(node: Node, report: Report) -> str | None:
    word = text(node, report)
    if word in _LATER_ORDERS:
        report.problem(node.place, f"{word} is not available in this version; remove it")
    elif word is not None and word != _ORDER:
        report.problem(node.place, f"{shown(word)} is not an order; {_ORDER} is{did_you_mean(word, [_ORDER])}")
    return word


def _match(owner: Fields, report: Report) -> Match | None:
    fields = owner.within("match", MATCH)
    if fields is None:
        return None
    found: dict[str, tuple[str | int | bool, ...]] = {}
    for key, reader in _MATCHERS.items():
        several: Reader[tuple[str | int | bool, ...]] = one_or_listed(reader)
        if values := fields.read(key, several):
            found[key] = values
    if all(fields.node(key) is None for key in MATCH.known):
        report.problem(owner.at("match"), "names no field, so it would take every request; use default_job_type")
    return Match(found)


def _defaults(fields: Fields) -> dict[str, str]:
    return {key: value for key, reader in _FIELDS.items() if (value := fields.read(key, reader)) is not None}


def _allow(fields: Fields) -> dict[str, tuple[str, ...]]:
    return {key: values for key, reader in _FIELDS.items() if (values := fields.read(key, listed(reader)))}


def _retry(owner: Fields) -> Retry:
    fields = owner.within("retry", RETRY)
    if fields is None:
        return Retry()
    unknown = fields.read("on_unknown", one_of(OnUnknown))
    return Retry(
        attempts=fields.read("attempts", whole(1, _MOST_ATTEMPTS)) or Retry().attempts,
        on_unknown=OnUnknown(unknown) if unknown else OnUnknown.HOLD,
    )


def _unable(key: str, value: str, routes: tuple[Route, ...] | None) -> str | None:
    """Say that none of the routes can do it; None if one can, or if they are not all known."""
    if routes is None or any(_ABLE[key](route.capabilities, value) for route in routes):
        return None
    words = {word for route in routes for word in _WORDS[key](route.capabilities)}
    return f"no route of this job type can do {key} {value}{did_you_mean(value, words)}"


def _makes_size(able: Capabilities, value: str) -> bool:
    size_wanted = Size.parse(value)
    return size_wanted is not None and able.sizes.refusal(size_wanted) is None


_ABLE: Mapping[str, Callable[[Capabilities, str], bool]] = {
    "quality": lambda able, value: value in able.quality,
    "size": _makes_size,
    "background": lambda able, value: value != "transparent" or able.transparent,
    "output_format": lambda able, value: value in able.output_formats,
}
_WORDS: Mapping[str, Callable[[Capabilities], Iterable[str]]] = {
    "quality": lambda able: able.quality,
    "size": lambda able: map(str, able.sizes.fixed),
    "background": lambda _: (),
    "output_format": lambda able: able.output_formats,
}
