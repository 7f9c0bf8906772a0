"""Usage: what a provider says it counted, as tokens to be priced, or the reason why it cannot be believed.

The shape is OpenAI's (`ImagesResponse.usage`): `{input_tokens, input_tokens_details: {image_tokens, text_tokens},
output_tokens, output_tokens_details?: {image_tokens, text_tokens}, total_tokens}`, and in the Responses API's
`tool_usage.image_gen` also `cached_tokens` with `cached_tokens_details: {cached_image_tokens, cached_text_tokens}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Never

from gateway.domain.settlement import Usage

LARGEST: Final = 10**9
"""Tokens; a larger number is a provider's mistake and not a bill."""

MISSING = "missing"
MALFORMED = "malformed"
NEGATIVE = "negative"
TOO_LARGE = "too_large"
ZERO_OUTPUT = "zero_output"
CONTRADICTORY = "contradictory"

_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_DETAILS = ("input_tokens_details", "output_tokens_details")
_KINDS = ("text_tokens", "image_tokens")
_CACHED, _CACHED_DETAILS = "cached_tokens", "cached_tokens_details"
_CACHED_KINDS = ("cached_text_tokens", "cached_image_tokens")


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
    if not isinstance(reported, dict):
        return MALFORMED
    try:
        return _read(reported, images)
    except _Unusable as unusable:
        return unusable.reason


def _read(reported: Mapping[str, object], images: int) -> Usage:
    details, details_out = map(reported.get, _DETAILS)
    if not isinstance(details, dict):
        details = _no_details(details)
    if not isinstance(details_out, dict):
        details_out = _no_details(details_out)
    counts = [*map(reported.get, _TOKENS), *map(details.get, _KINDS), *map(details_out.get, _KINDS)]
    all_in, all_out, total, text_in, image_in, text_out, image_out = _checked(counts)
    if all_in is None or all_out is None:
        raise _Unusable(MISSING)
    if total is not None and total != all_in + all_out:
        raise _Unusable(CONTRADICTORY)
    if text_in is None or image_in is None or text_in + image_in != all_in:
        text_in, image_in = _split(text_in, image_in, all_in)
    if text_out is None or image_out is None or text_out + image_out != all_out:
        text_out, image_out = _split(text_out, image_out, all_out)
    if image_out == 0 and (images > 0 or all_in + all_out == 0):  # every request has at least a prompt
        raise _Unusable(ZERO_OUTPUT)
    text_cached = image_cached = 0
    if _CACHED in reported or _CACHED in details or _CACHED_DETAILS in reported:
        text_cached, image_cached = _cached(reported, details, text_in, image_in)
    return Usage(
        text_in - text_cached,
        image_in - image_cached,
        text_cached,
        image_cached,
        image_out,
        text_out,
    )


def _split(text: int | None, image: int | None, total: int) -> tuple[int, int]:
    """Return text and image tokens; a part that is not named is what the other leaves of the total."""
    if text is None:
        text = 0 if image is None else total - image
    if image is None:
        image = total - text
    if text < 0 or image < 0 or text + image != total:
        raise _Unusable(CONTRADICTORY)
    return text, image


def _cached(
    reported: Mapping[str, object], input_details: Mapping[str, object], text_in: int, image_in: int
) -> tuple[int, int]:
    """Return cached text and image tokens; where they are not split, text first, since less is saved on it."""
    split = reported.get(_CACHED_DETAILS)
    if not isinstance(split, dict):
        split = _no_details(split)
    counts = [reported.get(_CACHED), input_details.get(_CACHED), *map(split.get, _CACHED_KINDS)]
    total, within, text, image = _checked(counts)
    if total is None:
        total = within
    if text is None and image is None:
        text = min(total or 0, text_in)
        image = (total or 0) - text
    elif text is None or image is None:
        rest = max((total or 0) - (text or image or 0), 0)
        text, image = (rest if text is None else text), (rest if image is None else image)
    if text > text_in or image > image_in or (total is not None and text + image != total):
        raise _Unusable(CONTRADICTORY)
    return text, image


def _no_details(told: object) -> Mapping[str, object]:
    """Return that there are none, if nothing was told of them."""
    if told is not None:
        raise _Unusable(MALFORMED)
    return {}


def _checked(values: Sequence[object]) -> Sequence[int | None]:
    """Return values of which each is a count, or None."""
    for value in values:
        if value is not None and (type(value) is not int or not 0 <= value <= LARGEST):
            _refuse(value)
    return values  # type: ignore[return-value]  # each was looked at


def _refuse(value: object) -> Never:
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Unusable(MALFORMED)
    raise _Unusable(NEGATIVE if value < 0 else TOO_LARGE)
