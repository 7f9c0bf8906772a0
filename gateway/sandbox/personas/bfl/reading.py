"""Reading a body, with the complaints of the framework that validates it: a 422 with `detail`."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gateway.sandbox.invalid import Invalid
from gateway.sandbox.personas.bfl.catalog import Model, Size

_MIN_EDGE, _MULTIPLE, _MAX_PIXELS = 64, 16, 4 * 1024 * 1024
_DEFAULT = 1024
_MAX_TOLERANCE = 6
_FORMATS = ("jpeg", "png")
_AREA, _ULTRA_AREA = 1024 * 1024, 4 * 1024 * 1024
_MIN_RATIO, _MAX_RATIO = 3 / 7, 7 / 3


@dataclass(frozen=True, slots=True)
class Input:
    """A valid body. `images` are input images by field and what it said, the mask last."""

    prompt: str
    size: Size
    output_format: str
    images: tuple[tuple[str, str], ...]
    webhook_url: str | None
    webhook_secret: str | None


def read_input(model: Model, fields: dict[str, object]) -> Input:
    """Return what a body asks a model for; raises Invalid."""
    for name in sorted(fields.keys() - model.parameters):
        raise Invalid(name, "extra_forbidden", "Extra inputs are not permitted")
    prompt = _text(fields, "prompt") or ""
    if not prompt and not model.fills:
        raise Invalid("prompt", "missing", "Field required")
    output_format = _text(fields, "output_format") or model.default_format
    if output_format not in _FORMATS:
        raise Invalid("output_format", "enum", "Input should be 'jpeg' or 'png'")
    tolerance = fields.get("safety_tolerance", 2)
    if isinstance(tolerance, bool) or not isinstance(tolerance, int) or not 0 <= tolerance <= _MAX_TOLERANCE:
        raise Invalid("safety_tolerance", "less_than_equal", f"Input should be from 0 to {_MAX_TOLERANCE}")
    return Input(
        prompt,
        _size(model, fields),
        output_format,
        _images(model, fields),
        _text(fields, "webhook_url"),
        _text(fields, "webhook_secret"),
    )


def _text(fields: dict[str, object], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise Invalid(name, "string_type", "Input should be a valid string")
    return value


def _size(model: Model, fields: dict[str, object]) -> Size:
    if "width" not in model.parameters:
        return _ratio_size(_text(fields, "aspect_ratio") or "1:1", _ULTRA_AREA if "raw" in model.parameters else _AREA)
    width, height = (_edge(fields, name) for name in ("width", "height"))
    if width * height > _MAX_PIXELS:
        raise Invalid("width", "value_error", "The image may have at most 4 megapixels")
    return width, height


def _edge(fields: dict[str, object], name: str) -> int:
    value = fields.get(name, _DEFAULT)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Invalid(name, "int_type", "Input should be a valid integer")
    if value < _MIN_EDGE:
        raise Invalid(name, "greater_than_equal", f"Input should be greater than or equal to {_MIN_EDGE}")
    if value % _MULTIPLE:
        raise Invalid(name, "multiple_of", f"Input should be a multiple of {_MULTIPLE}")
    return value


def _ratio_size(ratio: str, area: int) -> Size:
    """Return about so many pixels of a ratio such as `16:9`, edges multiples of 16; from 3:7 to 7:3."""
    across, _, down = ratio.partition(":")
    if not (across.isdecimal() and down.isdecimal() and int(across) and int(down)):
        raise Invalid("aspect_ratio", "value_error", "Input should be a ratio such as 16:9")
    wanted = int(across) / int(down)
    if not _MIN_RATIO <= wanted <= _MAX_RATIO:
        raise Invalid("aspect_ratio", "value_error", "The ratio should be between 3:7 and 7:3")
    width = math.sqrt(area * wanted)
    return round(width / _MULTIPLE) * _MULTIPLE, round(width / wanted / _MULTIPLE) * _MULTIPLE


def _images(model: Model, fields: dict[str, object]) -> tuple[tuple[str, str], ...]:
    if model.fills:
        image, mask = _text(fields, "image"), _text(fields, "mask")
        if not image:
            raise Invalid("image", "missing", "Field required")
        return (("image", image), *((("mask", mask),) if mask else ()))
    names = ("input_image", *(f"input_image_{number}" for number in range(2, model.inputs + 1)), "image_prompt")
    said = ((name, _text(fields, name)) for name in names)
    return tuple((name, text) for name, text in said if text)
