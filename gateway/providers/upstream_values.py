"""Upstream values: what a job says for one field of an upstream body, images apart."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from gateway.domain.job import AUTO, Size, parse_ratio
from gateway.domain.profile import Parameter, Source
from gateway.domain.tiers import SLACK, STRETCH
from gateway.ports.provider import Call
from gateway.providers.unsupported import unsupported

IMAGE_SOURCES: Final = frozenset({Source.IMAGES, Source.IMAGE, Source.MASK})


@dataclass(frozen=True, slots=True)
class Asked:
    """What one call asks for: the client's fields as policy changed them, and what the job says."""

    call: Call
    callback: str | None = None

    @property
    def fields(self) -> Mapping[str, object]:
        """The client's fields with policy's changes; None for what is left out."""
        return {**self.call.body.fields, **self.call.changes}

    @property
    def size(self) -> Size | None:
        """The size in pixels, if one is asked for."""
        return Size.parse(self.word("size") or AUTO)

    def sends(self, parameter: Parameter) -> bool:
        """Tell whether a parameter belongs to this kind of job."""
        call = self.call
        return parameter.is_sent(call.job.operation, call.body.mask, call.route.upstream_model)

    def word(self, name: str) -> str | None:
        """Return a field's word: what policy set for this provider, else that of the job."""
        changed = self.call.changes.get(name)
        return getattr(self.call.job, name) if changed is None else str(changed)

    def value(self, parameter: Parameter) -> object:
        """Return the value for a parameter that is no image; None leaves it out.

        UpstreamFailure (not sent) for a word that the provider has no counterpart of.
        """
        value = _READERS[parameter.source](self, parameter)
        if value is None or str(value) in parameter.values:
            return None if value is None else parameter.values[str(value)]
        if value == AUTO and parameter.source in _WORDS:
            return None
        if parameter.closed:
            known = ", ".join(parameter.values)
            raise unsupported(f"this route has nothing for {parameter.source} {str(value)[:60]!r}; it takes {known}")
        return value


def _of_client(asked: Asked, parameter: Parameter) -> object:
    """Return the client's own field; a number or a truth value for the text of one, since a form knows only text."""
    value = asked.fields.get(parameter.client_field)
    if value is None:
        return parameter.constant
    refuse_spooled(parameter.client_field, value)
    if not isinstance(value, str) or asked.call.body.encoding != "multipart":
        return value
    try:
        meant = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return meant if isinstance(meant, int) or (isinstance(meant, float) and math.isfinite(meant)) else value


_SPOOLED: Final = re.compile(r"spooled-[0-9a-f]{32}-[0-9]")
"""How the marker of a string of a JSON body begins that was left on disk."""
_WORDS: Final = frozenset({Source.SIZE, Source.QUALITY, Source.BACKGROUND, Source.OUTPUT_FORMAT})
"""Those of which `auto` is no word for a provider unless the profile translates it: it stands for no wish."""

_READERS: Final[Mapping[Source, Callable[[Asked, Parameter], object]]] = {
    Source.PROMPT: lambda asked, _: asked.fields.get("prompt"),
    Source.MODEL: lambda asked, _: asked.call.route.upstream_model,
    Source.N: lambda asked, _: asked.call.job.n,
    Source.SIZE: lambda asked, _: asked.word("size"),
    Source.WIDTH: lambda asked, _: asked.size.width if asked.size else None,
    Source.HEIGHT: lambda asked, _: asked.size.height if asked.size else None,
    Source.RATIO: lambda asked, parameter: (
        nearest_ratio(asked.size, parameter.among) if asked.size and not asked.call.job.any_ratio else None
    ),
    Source.RESOLUTION: lambda asked, parameter: tier_of(asked.size, parameter.tiers) if asked.size else None,
    Source.QUALITY: lambda asked, _: asked.word("quality"),
    Source.BACKGROUND: lambda asked, _: asked.word("background"),
    Source.OUTPUT_FORMAT: lambda asked, _: asked.word("output_format"),
    Source.USER: lambda asked, _: asked.call.job.user,
    Source.CALLBACK: lambda asked, _: asked.callback,
    Source.FIELD: _of_client,
    Source.CONSTANT: lambda _, parameter: parameter.constant,
}


def refuse_spooled(name: str, value: object) -> None:
    """Raise UpstreamFailure (not sent) for a field that is too long to be decoded: a marker stands in its place."""
    if not isinstance(value, int | float) and _SPOOLED.search(json.dumps(value)):
        raise unsupported(f"{name[:100]} is too long for this route")


def nearest_ratio(size: Size, among: tuple[str, ...]) -> str | None:
    """Return the ratio of a list that a size is nearest to, by how much one must be stretched; None of no list.

    UpstreamFailure (not sent) if none is near.
    """
    wanted = size.width / size.height
    known = [(abs(math.log(wanted / float(ratio))), text) for text in among if (ratio := parse_ratio(text))]
    if not known:
        return None
    stretch, nearest = min(known)
    if stretch > STRETCH:
        raise unsupported(f"size {size} has none of the ratios that this route makes: {', '.join(among)}")
    return nearest


def tier_of(size: Size, tiers: tuple[tuple[str, int | None], ...]) -> str | None:
    """Return the first tier whose pixels suffice for a size; UpstreamFailure (not sent) if none does."""
    for name, pixels in tiers:
        if pixels is None or size.pixels <= pixels * SLACK:
            return name
    raise unsupported(
        f"size {size} is more than {tiers[-1][0] if tiers else 'nothing'}, the most that this route makes"
    )
