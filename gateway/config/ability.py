"""What the routes of a job type can do between them, as they are and as their successors will be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from gateway.config.problems import did_you_mean
from gateway.domain.job import Operation, Size, parse_ratio
from gateway.domain.naming import quality_on
from gateway.domain.route import Capabilities, Model, Route
from gateway.domain.size_choice import lists_ratio, parsed
from gateway.domain.sizing import closest, of_ratio


def faces(route: Route) -> Iterator[Route]:
    """Yield a route and what serves under its name later.

    Checks ask them all, since a date that passes must never turn a sound policy into one that cannot be loaded.
    """
    face: Route | None = route
    while face is not None:
        yield face
        face = face.successor


def unable(key: str, value: str, routes: Sequence[Route], house: Model | None = None) -> str | None:
    """Say that none of the routes can do a quality, size, background or output format; None if one can.

    A quality is a word of the model `house`, by default that of the first route.
    """
    able = [face.capabilities for route in routes for face in faces(route)]
    if not able or any(_ABLE[key](each, value) for each in able):
        return None
    if key == "quality" and any(
        quality_on(route, face, value, house or routes[0].model) in face.capabilities.quality
        for route in routes
        for face in faces(route)
    ):
        return None
    words = dict.fromkeys(word for each in able for word in _WORDS[key](each))
    hint = did_you_mean(value, words) or (f"; there is {', '.join(words)}" if words else "")
    wanted = Size.parse(value) if key == "size" else None
    if wanted is not None and (refusal := able[0].sizes.refusal(wanted)):
        hint = f" ({refusal.removeprefix(f'size {wanted}').removeprefix(':').strip()})"
    return f"no route of this job type can do {key} {value}{hint}"


def allows(key: str, value: str, allowed: Sequence[str]) -> bool:
    """Tell whether a value is one of those allowed; a ratio is, if a size of that ratio is."""
    ratio = parse_ratio(value) if key == "size" else None
    if value in allowed or ratio is None:
        return value in allowed
    return lists_ratio(allowed, ratio) or closest(parsed(allowed), ratio) is not None


def able_operations(routes: Iterable[Route]) -> frozenset[Operation]:
    """Return what at least one of the routes can do."""
    return frozenset[Operation]().union(*(face.capabilities.operations for route in routes for face in faces(route)))


def _makes_size(able: Capabilities, value: str) -> bool:
    if (ratio := parse_ratio(value)) is not None:
        return of_ratio(able.sizes, ratio) is not None
    size = Size.parse(value)
    return size is not None and able.sizes.refusal(size) is None


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
