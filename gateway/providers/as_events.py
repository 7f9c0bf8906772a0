"""As events: whole answers told as the stream that the client asked for, one `completed` event for each image.

The shape is OpenAI's (`ImageGenCompletedEvent`, `ImageEditCompletedEvent`): `type`, `b64_json`, `created_at`, `size`,
`quality`, `background`, `output_format`, `usage`, in one `data:` line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields

from gateway.domain.job import AUTO, Job, Operation
from gateway.domain.settlement import Usage
from gateway.providers.collected import Piece
from gateway.providers.part import Part

_NAMES = {Operation.GENERATE: "image_generation.completed", Operation.EDIT: "image_edit.completed"}
_DEFAULT_FORMAT = "png"


def events(parts: Sequence[Part], job: Job) -> list[Piece]:
    """Return the stream; what an answer does not say of its images is said as it was asked for."""
    pieces: list[Piece] = []
    for part in parts:
        usages = shares(part.reading.usage, len(part.images)) if part.reading.usage else None
        for number in range(len(part.images)):
            about = _about(part.document, job)
            if usages is not None:
                about["usage"] = as_told(usages[number])
            head = json.dumps(about, separators=(",", ":"))[:-1]  # the image's own members follow, and close it
            (spool, start, end), *rest = part.pieces_of(number)
            opened = f"event: {about['type']}\ndata: {head},".encode()
            pieces += [opened, (spool, start + 1, end), *rest, b"\n\n"]
    return pieces


def _about(document: Mapping[str, object], job: Job) -> dict[str, object]:
    created = document.get("created")

    def said(name: str, asked: str) -> str:
        value = document.get(name)
        return value if isinstance(value, str) else asked

    return {
        "type": _NAMES[job.operation],
        "created_at": created if isinstance(created, int) else int(time.time()),
        "size": said("size", job.size),
        "quality": said("quality", job.quality),
        "background": said("background", job.background or AUTO),
        "output_format": said("output_format", job.output_format or _DEFAULT_FORMAT),
    }


def shares(usage: Usage, images: int) -> list[Usage]:
    """Divide the tokens of an answer among its images, as evenly as whole numbers go; they add up to it again."""

    def share(total: int, number: int) -> int:
        return total * (number + 1) // images - total * number // images

    counts = {field.name: getattr(usage, field.name) for field in fields(usage)}
    return [Usage(**{name: share(total, n) for name, total in counts.items()}) for n in range(images)]


def as_told(usage: Usage) -> dict[str, object]:
    """Return tokens in the shape of an event's `usage`."""
    text, image = usage.text_in + usage.text_in_cached, usage.image_in + usage.image_in_cached
    output = usage.image_out + usage.text_out
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"image_tokens": image, "text_tokens": text},
        "output_tokens": output,
        "total_tokens": text + image + output,
    }
