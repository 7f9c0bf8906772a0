"""What the names of body fields mean here: which hold images, and which are single values."""

from __future__ import annotations

import re

from gateway.domain import spelling

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
    """Return the field that a provider may take this name for, though it is none here; None if there is none."""
    return None if IMAGE.fullmatch(name) else spelling.other_spelling(name, READ_HERE)
