"""Task answer: one with images inside that are too large for the queue is kept apart, and joined when it is looked at.

That is how images are told that no storage took.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Mapping
from typing import Any

from gateway.ports import Answers, Truncated
from gateway.request.answer_keeping import Whole
from gateway.tasks.flight import whole

log = logging.getLogger(__name__)

APART = "apart"
"""In a task's result: whether the images that it does not show are in the kept answer of its request."""
PAUSES = (0.0, 1.0, 5.0, 15.0, 60.0, 180.0, 300.0)
"""Seconds before each try to keep an answer that no storage took so far; the task is not at its end meanwhile."""
_INLINE = "b64_json"


def read(body: bytes) -> Any:
    """Return what an answer says; a number too large for a float, or that is none, is null, since no JSON has those."""
    return json.loads(body, parse_float=_finite, parse_constant=lambda _: None)


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


async def kept_apart(answers: Answers, request_id: str, result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return what the queue is told of a result whose images are kept apart; None if that cannot be.

    The answer lies there already where its flight has kept it.
    """
    if APART in result:
        return None
    for pause in PAUSES:
        await asyncio.sleep(pause)
        if await answers.find(request_id) is not None:
            return _without_images(result) | {APART: True}
        log.warning("the answer of request %s, too large for the queue, is not kept yet", request_id)
        body = json.dumps(result).encode()
        recording = answers.record(request_id)
        await recording.write(body)
        headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
        await recording.commit(200, headers)
    return _without_images(result) | {APART: True} if await answers.find(request_id) is not None else None


def _without_images(result: Mapping[str, Any]) -> dict[str, Any]:
    images = [
        {name: value for name, value in image.items() if name != _INLINE}
        for image in result.get("data", ())
        if isinstance(image, Mapping)
    ]
    return {**result, "data": images}


async def joined(answers: Answers, request_id: str, result: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return a task's result with the images that are kept apart, as far as they are still to be had."""
    if result is None or APART not in result:
        return result
    told = {name: value for name, value in result.items() if name != APART}
    found = await answers.find(request_id)
    if found is None:
        return told
    try:
        kept: Whole = await whole(found)
        return {**told, **read(kept.body)}
    except (Truncated, ValueError) as error:
        log.warning("the kept answer of request %s cannot be read: %r", request_id, error)
        return told
