"""From a request's fields to what shall be made, or to the error that OpenAI would give."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from gateway.sandbox.personas.openai import errors, fields
from gateway.sandbox.personas.openai.catalog import FIXED_SIZES, MODELS, ImageModel
from gateway.sandbox.personas.openai.submission import InputImage, Submission

GENERATE = "generate"
EDIT = "edit"

MAX_PROMPT_CHARS = 32_000
MAX_IMAGES_IN = 16
MAX_IMAGES_OUT = 10
_MAX_PARTIALS = 3
_FORMATS = ("png", "webp", "jpeg")
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
_MULTIPLE = 16
_MAX_EDGE = 3840
_MAX_RATIO = 3
_MIN_PIXELS = 655_360
_MAX_PIXELS = 8_294_400
_MODEL_DECIDES = "high"
"""The quality that `auto` becomes."""

_COMMON = frozenset(
    {"prompt", "model", "n", "size", "quality", "background", "output_format", "output_compression", "moderation"}
    | {"stream", "partial_images", "complexity", "safety_identifier", "user"}
)
_KNOWN = {GENERATE: _COMMON, EDIT: _COMMON | {"images", "input_fidelity", "markup"}}


@dataclass(frozen=True, slots=True)
class ImageJob:
    """A valid request, `auto` resolved. `images` are the inputs, the mask not among them."""

    operation: str
    model: ImageModel
    prompt: str
    n: int
    width: int
    height: int
    quality: str
    background: str
    output_format: str
    compression: int
    stream: bool
    partial_images: int
    input_fidelity: str | None
    images: tuple[InputImage, ...]

    @property
    def size(self) -> str:
        """`WIDTHxHEIGHT` in pixels."""
        return f"{self.width}x{self.height}"


def validate(submission: Submission, operation: str) -> ImageJob:
    """Return the job, or raise the ApiError of the first thing wrong."""
    given = submission.fields
    model = _model(given)
    for name in given:
        if name not in _KNOWN[operation]:
            raise errors.unknown(name)
    prompt = _prompt(given)
    n = fields.integer(given, "n", 1, MAX_IMAGES_OUT)
    width, height = _size(fields.text(given, "size") or "auto", model, prompt)
    quality = fields.word(given, "quality", (*model.qualities, "auto")) or "auto"
    output_format = fields.word(given, "output_format", _FORMATS) or "png"
    background = _background(given, model, output_format)
    fields.word(given, "moderation", ("auto", "low"))
    fields.word(given, "complexity", ("low", "medium", "high"))
    stream = fields.flag(given, "stream")
    if operation == EDIT:
        _check_inputs(submission)
    return ImageJob(
        operation=operation,
        model=model,
        prompt=prompt,
        n=1 if n is None else n,
        width=width,
        height=height,
        quality=_MODEL_DECIDES if quality == "auto" else quality,
        background=background,
        output_format=output_format,
        compression=_compression(given, output_format),
        stream=stream,
        partial_images=_partial_images(given, stream=stream),
        input_fidelity=_input_fidelity(given, model),
        images=tuple(submission.images),
    )


def _model(given: fields.Fields) -> ImageModel:
    name = fields.text(given, "model")
    if not name:
        raise errors.missing("model")
    model = MODELS.get(name)
    if model is None:
        raise errors.model_not_found(name)
    if model.retired:
        raise errors.model_retired(name)
    return model


def _prompt(given: fields.Fields) -> str:
    prompt = fields.text(given, "prompt")
    if prompt is None:
        raise errors.missing("prompt")
    if not prompt:
        raise errors.empty("prompt")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise errors.too_long("prompt", MAX_PROMPT_CHARS, len(prompt))
    return prompt


def _size(text: str, model: ImageModel, prompt: str) -> tuple[int, int]:
    if text == "auto":
        choice = hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).digest()[0]
        return FIXED_SIZES[choice % len(FIXED_SIZES)]
    match = _SIZE.fullmatch(text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not model.any_size:
        if size not in FIXED_SIZES:
            raise errors.not_among("size", text, (*(f"{w}x{h}" for w, h in FIXED_SIZES), "auto"))
        return size
    fault = _size_fault(*size)
    if fault:
        raise errors.user_error(f"Invalid size '{text}'. {fault}", "size")
    return size


def _size_fault(width: int, height: int) -> str | None:
    long, short = max(width, height), min(width, height)
    faults = (
        (not width, "Size must be 'auto' or WIDTHxHEIGHT, for example '1024x1024'."),
        (width % _MULTIPLE or height % _MULTIPLE, "Width and height must both be divisible by 16."),
        (long > _MAX_EDGE, f"The longest edge must not exceed {_MAX_EDGE} pixels."),
        (long > _MAX_RATIO * short, "The ratio of the long edge to the short edge must not exceed 3:1."),
        (width * height < _MIN_PIXELS, "Requested resolution is below the current minimum pixel budget."),
        (width * height > _MAX_PIXELS, "Requested resolution exceeds the current maximum pixel budget."),
    )
    return next((message for holds, message in faults if holds), None)


def _background(given: fields.Fields, model: ImageModel, output_format: str) -> str:
    background = fields.word(given, "background", ("transparent", "opaque", "auto"))
    if background != "transparent":
        return "opaque"
    if not model.transparent:
        raise errors.user_error("Transparent background is not supported for this model.", "background")
    if output_format == "jpeg":
        raise errors.user_error("Transparent background is not supported for JPEG output format.", "background")
    return background


def _compression(given: fields.Fields, output_format: str) -> int:
    compression = fields.integer(given, "output_compression", 0, 100)
    if compression is None:
        return 100
    if compression < 100 and output_format == "png":  # noqa: PLR2004 - percent
        raise errors.user_error(
            "Compression less than 100 is not supported for PNG output format.", "output_compression"
        )
    return compression


def _partial_images(given: fields.Fields, *, stream: bool) -> int:
    partial_images = fields.integer(given, "partial_images", 0, _MAX_PARTIALS) or 0
    if partial_images and not stream:
        raise errors.ApiError(
            400, "partial_images is only supported when stream is true.", param="partial_images", code="invalid_value"
        )
    return partial_images


def _input_fidelity(given: fields.Fields, model: ImageModel) -> str | None:
    fidelity = fields.text(given, "input_fidelity")
    if fidelity is None:
        return None
    if not model.input_fidelity:
        raise errors.user_error(
            f"The model '{model.id}' does not support the 'input_fidelity' parameter.",
            "input_fidelity",
            "invalid_input_fidelity_model",
        )
    if fidelity not in model.input_fidelity:
        raise errors.not_among("input_fidelity", fidelity, model.input_fidelity)
    return fidelity


def _check_inputs(submission: Submission) -> None:
    param = "images" if "images" in submission.fields else "image"
    if not submission.images:
        raise errors.missing(param)
    if len(submission.images) > MAX_IMAGES_IN:
        raise errors.too_many(param, MAX_IMAGES_IN, len(submission.images))
    mask, first = submission.mask, submission.images[0]
    if mask is None or mask.file is None or first.file is None:
        return
    if (mask.width, mask.height) != (first.width, first.height):
        raise errors.user_error(
            "Invalid mask image format - mask size does not match image size", "mask", "invalid_mask_image_format"
        )
    if not mask.alpha:
        raise errors.user_error(
            "Invalid mask image format - mask image missing alpha channel", "mask", "invalid_mask_image_format"
        )
