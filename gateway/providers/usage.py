"""Usage: what a provider says it counted, as tokens to be priced, or the reason why it cannot be believed.

The shape is OpenAI's (`ImagesResponse.usage`): `{input_tokens, input_tokens_details: {image_tokens, text_tokens},
output_tokens, output_tokens_details?: {image_tokens, text_tokens}, total_tokens}`, and in the Responses API's
`tool_usage.image_gen` also `cached_tokens` with `cached_tokens_details: {cached_image_tokens, cached_text_tokens}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.domain.settlement import Usage

LARGEST: Final = 10**9
"""Tokens; a larger number is a provider's mistake and not a bill."""

MISSING = "missing"
MALFORMED = "malformed"
NEGATIVE = "negative"
TOO_LARGE = "too_large"
ZERO_OUTPUT = "zero_output"
CONTRADICTORY = "contradictory"


class _Unusable(Exception):
    """Carries the reason, one of the words above."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def read_usage(reported: object, *, images: int) -> Usage | str:
    """Return the tokens, or one of the words above; never raises. `images` is how many images the answer carries.

    Cached tokens are not counted a second time: `text_in` and `image_in` are the tokens paid in full. What is not
    split is taken for the dearer kind: all input for image input, all output for image output.
    """
    if reported is None:
        return MISSING
    try:
        return _read(_object(reported), images)
    except _Unusable as unusable:
        return unusable.reason


def _read(reported: Mapping[str, object], images: int) -> Usage:
    tokens_in = _required(reported, "input_tokens")
    tokens_out = _required(reported, "output_tokens")
    total = _optional(reported, "total_tokens")
    if total is not None and total != tokens_in + tokens_out:
        raise _Unusable(CONTRADICTORY)
    text_in, image_in = _split(reported, "input_tokens_details", tokens_in)
    text_out, image_out = _split(reported, "output_tokens_details", tokens_out)
    if image_out == 0 and (images > 0 or tokens_in + tokens_out == 0):  # every request has at least a prompt
        raise _Unusable(ZERO_OUTPUT)
    text_cached, image_cached = _cached(reported, text_in, image_in)
    return Usage(
        text_in=text_in - text_cached,
        image_in=image_in - image_cached,
        text_in_cached=text_cached,
        image_in_cached=image_cached,
        image_out=image_out,
        text_out=text_out,
    )


def _split(reported: Mapping[str, object], name: str, total: int) -> tuple[int, int]:
    """Return text and image tokens; a part that is not named is what the other leaves of the total."""
    details = _details(reported, name)
    text = _optional(details, "text_tokens")
    image = _optional(details, "image_tokens")
    if text is None:
        text = 0 if image is None else total - image
    if image is None:
        image = total - text
    if text < 0 or image < 0 or text + image != total:
        raise _Unusable(CONTRADICTORY)
    return text, image


def _cached(reported: Mapping[str, object], text_in: int, image_in: int) -> tuple[int, int]:
    """Return cached text and image tokens; where they are not split, text first, since less is saved on it."""
    total = _optional(reported, "cached_tokens")
    if total is None:
        total = _optional(_details(reported, "input_tokens_details"), "cached_tokens")
    details = _details(reported, "cached_tokens_details")
    text = _optional(details, "cached_text_tokens")
    image = _optional(details, "cached_image_tokens")
    if text is None and image is None:
        text = min(total or 0, text_in)
        image = (total or 0) - text
    elif text is None or image is None:
        rest = max((total or 0) - (text or image or 0), 0)
        text, image = (rest if text is None else text), (rest if image is None else image)
    if text > text_in or image > image_in or (total is not None and text + image != total):
        raise _Unusable(CONTRADICTORY)
    return text, image


def _details(reported: Mapping[str, object], name: str) -> Mapping[str, object]:
    details = reported.get(name)
    return {} if details is None else _object(details)


def _object(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _Unusable(MALFORMED)
    return value


def _required(reported: Mapping[str, object], name: str) -> int:
    count = _optional(reported, name)
    if count is None:
        raise _Unusable(MISSING)
    return count


def _optional(reported: Mapping[str, object], name: str) -> int | None:
    value = reported.get(name)
    if value is None or (type(value) is int and 0 <= value <= LARGEST):
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Unusable(MALFORMED)
    if value < 0:
        raise _Unusable(NEGATIVE)
    if value > LARGEST:
        raise _Unusable(TOO_LARGE)
    return value
