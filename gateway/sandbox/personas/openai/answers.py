"""The bodies of OpenAI's answers: one JSON object, or server-sent events; and what a fault makes of them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from gateway.sandbox.faults import Fault
from gateway.sandbox.personas.openai.pricing import Tokens
from gateway.sandbox.personas.openai.validation import EDIT, ImageJob
from gateway.sandbox.pictures import Gallery, Picture

_ZERO = Tokens(0, 0, 0)


async def json_answer(job: ImageJob, tokens: Tokens, gallery: Gallery, fault: Fault | None) -> bytes:
    """Return an ImagesResponse with every image as base64."""
    images = [await gallery.base64(picture(job, i, fault)) for i in range(_delivered(job.n, fault))]
    body = {
        "created": int(time.time()),
        **_resolved(job),
        "data": [{"b64_json": image} for image in images],
        **_usage(tokens, fault, details=True),
    }
    return json.dumps(body, separators=(",", ":")).encode()


async def event_chunks(job: ImageJob, tokens: list[Tokens], gallery: Gallery, fault: Fault | None) -> list[bytes]:
    """Return one chunk an event: for each image its partial images, then `completed` with that image's own usage."""
    chunks: list[bytes] = []
    stopped = fault is not None and fault.name in {"truncated_stream", "error_in_stream"}
    for index in range(_delivered(job.n, fault)):
        for partial in range(job.partial_images):
            image = await gallery.base64(picture(job, index, fault, note=f"(partial {partial + 1})"))
            chunks.append(_event(job, "partial_image", {"b64_json": image, "partial_image_index": partial}))
        if stopped:
            break
        image = await gallery.base64(picture(job, index, fault))
        usage = _usage(tokens[index], fault, details=False)
        chunks.append(_event(job, "completed", {"b64_json": image, **usage}))
    if fault is not None and fault.name == "error_in_stream":
        chunks.append(_error_event(fault))
    return chunks


def picture(job: ImageJob, index: int, fault: Fault | None, note: str = "") -> Picture:
    """Return the picture of one image of a job."""
    return Picture(
        prompt=job.prompt,
        model=job.model.id,
        width=job.width,
        height=job.height,
        quality=job.quality,
        output_format=job.output_format,
        compression=job.compression,
        transparent=job.background == "transparent",
        index=index,
        note=note,
        padding=fault.parameters["bytes"] if fault is not None and fault.name == "pad" else 0,
    )


def _delivered(n: int, fault: Fault | None) -> int:
    """How many images the answer holds; the provider made and charges for `n`."""
    if fault is None or fault.name != "wrong_count":
        return n
    wanted = fault.parameters["images"]
    return n - 1 if wanted is None else min(n, int(wanted))


def _resolved(job: ImageJob) -> dict[str, str]:
    return {
        "background": job.background,
        "output_format": job.output_format,
        "quality": job.quality,
        "size": job.size,
    }


def _usage(tokens: Tokens, fault: Fault | None, *, details: bool) -> dict[str, object]:
    match fault.name if fault else None:
        case "no_usage":
            return {}
        case "zero_usage":
            return {"usage": _ZERO.as_usage(details=details)}
        case "garbage_usage" if fault:
            return {"usage": fault.parameters["usage"]}
        case _:
            return {"usage": tokens.as_usage(details=details)}


def _event(job: ImageJob, kind: str, content: Mapping[str, object]) -> bytes:
    name = f"{'image_edit' if job.operation == EDIT else 'image_generation'}.{kind}"
    data = {"type": name, "created_at": int(time.time()), **_resolved(job), **content}
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _error_event(fault: Fault) -> bytes:
    error = {"message": fault.parameters["message"], "type": fault.parameters["type"], "param": None}
    data = {"error": {**error, "code": fault.parameters["code"]}}
    return f"data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
