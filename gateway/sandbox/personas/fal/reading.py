"""Reading a model's input, with the complaints of the runner that validates it: a 422 when the result is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.sandbox.invalid import Invalid
from gateway.sandbox.personas.fal.catalog import Endpoint, Size

_MAX_IMAGES, _MAX_SOURCES = 4, 16
_MAX_EDGE, _MIN_PIXELS, _MAX_PIXELS, _MAX_RATIO = 3840, 655_360, 8_294_400, 3
_MAX_FLUX_EDGE = 14_142


@dataclass(frozen=True, slots=True)
class Input:
    """A valid input."""

    prompt: str
    size: Size
    quality: str
    images: int
    output_format: str
    sources: tuple[tuple[str, str], ...]
    inline: bool


def read_input(endpoint: Endpoint, fields: dict[str, object]) -> Input:
    """Return the input of a model; raises Invalid."""
    for name in sorted(fields.keys() - endpoint.parameters):
        raise Invalid(name, "extra_forbidden", "Extra inputs are not permitted")
    prompt = fields.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise Invalid("prompt", "missing" if prompt is None else "string_type", "Field required")
    quality = _word(fields, "quality", endpoint.qualities, "high") if endpoint.qualities else ""
    output_format = _word(fields, "output_format", endpoint.formats, endpoint.default_format)
    images = fields.get("num_images", 1)
    if isinstance(images, bool) or not isinstance(images, int) or not 1 <= images <= _MAX_IMAGES:
        raise Invalid("num_images", "less_than_equal", f"Input should be from 1 to {_MAX_IMAGES}")
    size = _size(endpoint, fields.get(endpoint.size_field, endpoint.default_size))
    return Input(
        prompt, size, quality, images, output_format, _sources(endpoint, fields), bool(fields.get("sync_mode"))
    )


def _word(fields: dict[str, object], name: str, allowed: Sequence[str], default: str) -> str:
    word = fields.get(name, default)
    if word not in allowed:
        raise Invalid(name, "literal_error", f"Input should be {' or '.join(repr(w) for w in allowed)}")
    return str(word)


def _size(endpoint: Endpoint, wanted: object) -> Size:
    if isinstance(wanted, str) and wanted in endpoint.sizes:
        return endpoint.sizes[wanted]
    if not isinstance(wanted, dict) or endpoint.size_field != "image_size":
        raise Invalid(endpoint.size_field, "literal_error", f"Input should be {' or '.join(endpoint.sizes)}")
    width, height = wanted.get("width"), wanted.get("height")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        raise Invalid(endpoint.size_field, "int_type", "Width and height should be whole numbers")
    if endpoint.multiple == 1:
        if max(width, height) > _MAX_FLUX_EDGE:
            raise Invalid(endpoint.size_field, "less_than_equal", "The image is too large")
        return width, height
    fits = all(edge % endpoint.multiple == 0 and edge <= _MAX_EDGE for edge in (width, height))
    ratio = max(width, height) <= _MAX_RATIO * min(width, height)
    if not (fits and ratio and _MIN_PIXELS <= width * height <= _MAX_PIXELS):
        raise Invalid(endpoint.size_field, "value_error", "The size is not within the limits of the model")
    return width, height


def _sources(endpoint: Endpoint, fields: dict[str, object]) -> tuple[tuple[str, str], ...]:
    if not endpoint.edits:
        return ()
    urls = fields.get("image_urls")
    if not isinstance(urls, list) or not 1 <= len(urls) <= _MAX_SOURCES or not all(isinstance(u, str) for u in urls):
        raise Invalid("image_urls", "missing" if urls is None else "list_type", "A list of 1 to 16 URLs is required")
    mask = fields.get("mask_url")
    if mask is not None and not isinstance(mask, str):
        raise Invalid("mask_url", "string_type", "Input should be a valid string")
    return (*(("image_urls", url) for url in urls), *((("mask_url", mask),) if mask else ()))
