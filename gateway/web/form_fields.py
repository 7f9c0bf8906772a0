"""What the names of body fields mean here: which hold images, and which are single values."""

from __future__ import annotations

import re

IMAGE = re.compile(r"image(?:\[[0-9]{0,3}\])?")
"""Form parts that are input images: `image`, `image[]`, `image[0]`."""

MASK = "mask"
MARKUP = "markup"
"""Drawn over the first image, in place of a mask (the vendor's SDK, `types/image_edit_params.py`)."""
OVERLAYS = frozenset({MASK, MARKUP})

IMAGES = "images"
IMAGE_URLS = "image_urls"
REFERENCES = ("image_url", "file_id")

SINGLE = frozenset(
    {
        "async",
        "background",
        "callback_url",
        "complexity",
        "frame_count",
        "frame_duration_ms",
        "input_fidelity",
        "model",
        "moderation",
        "n",
        "output_compression",
        "output_format",
        "partial_images",
        "prompt",
        "quality",
        "resolution",
        "response_format",
        "safety_identifier",
        "size",
        "stream",
        "style",
        "user",
    }
)
"""Fields with one short value (the vendor's SDK, `types/image_generate_params.py` and `image_edit_params.py`)."""

READ_HERE = SINGLE | OVERLAYS | {"image", IMAGES, IMAGE_URLS}


def other_spelling(name: str) -> str | None:
    """Return the field that a provider may take this name for, though it is none here; None if there is no such field.

    Some readers drop brackets (`n[]`), some ignore case (`N`): what is priced must be what is sent.
    """
    plain = name.casefold().partition("[")[0].strip()
    return plain if plain in READ_HERE and name != plain and not IMAGE.fullmatch(name) else None
