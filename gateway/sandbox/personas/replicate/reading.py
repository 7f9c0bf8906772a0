"""Reading a prediction's input, with Replicate's complaints: a 422 that lists every field."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.sandbox.invalid import Invalid
from gateway.sandbox.personas.replicate.catalog import RATIOS, RESOLUTIONS, Model, Size

_FORMATS = {"webp": "webp", "png": "png", "jpg": "jpeg"}
_MIN_EDGE, _MAX_EDGE, _MULTIPLE = 256, 1440, 32
_DEFAULT_EDGE = 1024


@dataclass(frozen=True, slots=True)
class Input:
    """A valid input; `extension` as in links, `output_format` as pictures know it."""

    prompt: str
    size: Size
    images: int
    extension: str
    output_format: str
    resolution: str
    sources: tuple[tuple[str, str], ...]


def read_input(model: Model, given: dict[str, object]) -> Input:
    """Return the input of a model; raises Invalid."""
    for name in sorted(given.keys() - model.parameters):
        raise Invalid(name, "additional_property_not_allowed", f"Additional property {name} is not allowed")
    prompt = given.get("prompt")
    if not isinstance(prompt, str):
        raise Invalid("prompt", "required", "prompt is required")
    images = given.get("num_outputs", 1)
    if isinstance(images, bool) or not isinstance(images, int) or not 1 <= images <= model.most:
        raise Invalid("num_outputs", "number_lte", f"num_outputs must be from 1 to {model.most}")
    extension = _word(given, "output_format", tuple(_FORMATS), model.default_format)
    resolution = _word(given, "resolution", tuple(RESOLUTIONS), "1K")
    width, height = _size(model, given)
    scale = RESOLUTIONS[resolution]
    return Input(
        prompt,
        (width * scale, height * scale),
        images,
        extension,
        _FORMATS[extension],
        resolution,
        _sources(model, given),
    )


def _word(given: dict[str, object], name: str, allowed: tuple[str, ...], default: str) -> str:
    word = given.get(name, default)
    if word not in allowed:
        listed = ", ".join(f'"{choice}"' for choice in allowed)
        raise Invalid(name, "enum", f"{name} must be one of the following: {listed}")
    return str(word)


def _size(model: Model, given: dict[str, object]) -> Size:
    ratio = given.get("aspect_ratio", "1:1")
    free = model.free_size and (ratio == "custom" or "aspect_ratio" not in model.parameters)
    if free:
        return _edge(given, "width"), _edge(given, "height")
    if not isinstance(ratio, str) or ratio not in RATIOS:
        listed = ", ".join(f'"{choice}"' for choice in RATIOS)
        raise Invalid("aspect_ratio", "enum", f"aspect_ratio must be one of the following: {listed}")
    return RATIOS[ratio]


def _edge(given: dict[str, object], name: str) -> int:
    value = given.get(name, _DEFAULT_EDGE)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(name, "invalid_type", f"Invalid type. Expected: integer, given: {type(value).__name__}")
    if not _MIN_EDGE <= value <= _MAX_EDGE or value % _MULTIPLE:
        raise Invalid(name, "number_lte", f"{name} must be a multiple of 32 from {_MIN_EDGE} to {_MAX_EDGE}")
    return value


def _sources(model: Model, given: dict[str, object]) -> tuple[tuple[str, str], ...]:
    said = given.get(model.images)
    if said is None:
        return ()
    several = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str)]
    uris = all(one.startswith(("http://", "https://", "data:")) for one in several)
    if not uris or len(several) != (len(said) if isinstance(said, list) else 1):
        raise Invalid(model.images, "format", f"Does not match format 'uri': {model.images}")
    return tuple((model.images, one) for one in several)
