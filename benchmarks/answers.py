"""What upstreams answer, and what clients ask: canned, so that nothing but what lies in between is measured."""

from __future__ import annotations

import base64
import io
import json
import os
from functools import cache

from PIL import Image

SIZES = {"small": 1_000, "large": 2_133_000, "huge": 8_000_000}
"""Bytes of an answer: facts alone; an image of 1.6 MB in base64; one of 6 MB."""

MODEL = "gpt-image-2"
EDGE = 1_872
"""Pixels a side of the uploaded image: 10.5 MB, since noise does not compress."""
BOUNDARY = "bench-boundary-7a41c0"
USAGE = {
    "input_tokens": 12,
    "output_tokens": 196,
    "total_tokens": 208,
    "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
    "output_tokens_details": {"text_tokens": 0, "image_tokens": 196},
}


@cache
def answer(kind: str) -> bytes:
    """Return the body of an answer of one of SIZES."""
    facts = {"created": 1_795_000_000, "background": "opaque", "output_format": "png", "quality": "low"}
    rest = len(json.dumps({**facts, "size": "1024x1024", "data": [{"b64_json": ""}], "usage": USAGE}))
    image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * ((SIZES[kind] - rest) * 3 // 4)).decode()
    return json.dumps({**facts, "size": "1024x1024", "data": [{"b64_json": image}], "usage": USAGE}).encode()


def generation(model: str = MODEL) -> bytes:
    """Return the body of a request for one image."""
    wanted = {"model": model, "prompt": "a red bicycle", "n": 1, "size": "1024x1024", "quality": "low"}
    return json.dumps(wanted).encode()


@cache
def edit(model: str = MODEL) -> tuple[bytes, str]:
    """Return the body of a request to edit an image of 10 MB, and its content type."""
    file = io.BytesIO()
    Image.frombytes("RGB", (EDGE, EDGE), os.urandom(EDGE * EDGE * 3)).save(file, "PNG", compress_level=0)
    fields = {"model": model, "prompt": "make it blue", "n": "1", "size": "1024x1024", "quality": "low"}
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields.items()
    ]
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
        "Content-Type: image/png\r\n\r\n"
    )
    body = "".join(parts).encode() + head.encode() + file.getvalue() + f"\r\n--{BOUNDARY}--\r\n".encode()
    return body, f"multipart/form-data; boundary={BOUNDARY}"
