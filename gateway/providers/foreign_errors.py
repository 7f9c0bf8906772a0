"""Foreign errors: what others say went wrong, in the shape of the API that is served here.

| what comes                                                         | becomes                                      |
|--------------------------------------------------------------------|----------------------------------------------|
| `{"error": {"code": 429, "message", "metadata"}}`                  | the code as text                             |
| `{"error": "words"}`, `{"code": "words", "error": "words"}`        | `message`, and `code` where it is a word     |
| `{"error": [{...}]}`                                               | the first of them                            |
| `{"detail": "words"}`, `{"detail": [{"loc", "msg", "type"}]}`      | `message`, `param` where one place is named  |
| `{"message": "words", "code"}`                                     | `message`, `code`                            |
| a content filter's refusal, under any of its names, 400 403 or 422 | 400 `image_generation_user_error`,           |
|                                                                    | `moderation_blocked`, `moderation_details`   |

Sources: Azure OpenAI's `dalleErrorResponse` schema and `openai-python`'s `lib/azure.py`; OpenRouter's error page;
FastAPI's `HTTPException` and `RequestValidationError`; xAI's SDK. What has none of these shapes stays as it came.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

MODERATED: Final = "moderation_blocked"
USER_ERROR: Final = "image_generation_user_error"

_FILTERED: Final = frozenset(
    {"content_policy_violation", "contentfilter", "content_filter", "responsibleaipolicyviolation", MODERATED}
)
"""Codes of a content filter, in lower case."""
_MAY_BE_MODERATION: Final = frozenset({400, 403, 422})
_REFUSED: Final = re.compile(
    r"content moderation|content polic|safety system|was flagged|was blocked by moder", re.IGNORECASE
)
_OUTPUT: Final = re.compile(r"generated image|output image", re.IGNORECASE)
PLAIN_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_CATEGORY: Final = re.compile(r"[A-Za-z0-9_/ -]{1,64}", re.ASCII)
_NULLABLE: Final = frozenset({"param", "code"})

Object = Mapping[str, object]


def in_shape(status: int, body: bytes) -> tuple[int, bytes]:
    """Return the status and body of an error as this API's clients read it; what is unreadable stays as it came."""
    try:
        document = json.loads(body)
        error = _error_of(document) if isinstance(document, dict) else None
        if error is None:
            return status, body
        moderated = _moderation(status, error)
        if moderated is not None:
            return HTTPStatus.BAD_REQUEST, json.dumps({"error": moderated}).encode()
        return status, json.dumps({"error": _plain(status, error)}).encode()
    except (ValueError, RecursionError):  # what is nested too deeply to be read, or only to be written again
        return status, body


def filled(status: int, body: bytes) -> bytes:
    """Return the body of an error, whose `error` is an object, with what that lacks; one that lacks nothing as it came.

    Clients rely on a message and a type that are text, and on a param and a code that are text or null.
    """
    document = json.loads(body)
    error: Object = document["error"]
    amiss = {name: value for name, value in _plain(status, error).items() if not _is_sound(name, error)}
    return json.dumps({**document, "error": {**error, **amiss}}).encode() if amiss else body


def _is_sound(name: str, error: Object) -> bool:
    value = error.get(name)
    return bool(isinstance(value, str) and value) or (value is None and name in error and name in _NULLABLE)


def moderated_body(message: str, categories: list[str], stage: str, **more: object) -> dict[str, object]:
    """Return the error object of a moderation refusal; `stage` is `input`, `output` or `unknown`."""
    details = {"moderation_stage": stage, "categories": categories}
    return {
        "message": message,
        "type": USER_ERROR,
        "param": None,
        "code": MODERATED,
        "moderation_details": details,
        **more,
    }


def _error_of(document: Object) -> Object | None:
    """Return what a document says went wrong, as an object with `message`."""
    error = document.get("error")
    if isinstance(error, list):
        error = next((item for item in error if isinstance(item, dict)), None)
    if isinstance(error, dict):
        return error
    if isinstance(error, str):
        return {"message": error, "code": document.get("code")}
    detail = document.get("detail")
    if detail is not None:
        return _of_detail(detail)
    return document if isinstance(document.get("message"), str) else None


def _of_detail(detail: object) -> Object:
    if isinstance(detail, str):
        return {"message": detail}
    if isinstance(detail, dict):
        return {"message": detail.get("message", json.dumps(detail)), "code": detail.get("code")}
    items = [item for item in detail if isinstance(item, dict)] if isinstance(detail, list) else []
    places = [".".join(str(step) for step in _steps(item)) for item in items]
    told = "; ".join(f"{place}: {item.get('msg')}" for place, item in zip(places, items, strict=True))
    return {"message": told or json.dumps(detail), "param": places[0] if len(places) == 1 else None}


def _steps(item: Object) -> list[object]:
    """Where a value stands that a validator refuses, without the `body` that they all stand in."""
    where = item.get("loc")
    return [step for step in where if step != "body"] if isinstance(where, list) else []


def _plain(status: int, error: Object) -> dict[str, object]:
    message, kind, param = error.get("message"), error.get("type"), error.get("param")
    if message and not isinstance(message, str):
        message = json.dumps(message)
    return {
        "message": message or f"The provider answered {status}.",
        "type": kind if isinstance(kind, str) and kind else _kind(status),
        "param": param if isinstance(param, str) else None,
        "code": _code(error),
    }


def _kind(status: int) -> str:
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "requests"
    return "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"


def _code(error: Object) -> str | None:
    """Return the code as a plain word; one that is a sentence is none."""
    code = error.get("code")
    text = str(code) if isinstance(code, int | str) and not isinstance(code, bool) else ""
    return text if PLAIN_CODE.fullmatch(text) else None


def is_moderation(status: int, error: Object) -> bool:
    """Tell whether an error is a refusal by a content filter."""
    return _moderation(status, error) is not None


def _moderation(status: int, error: Object) -> dict[str, object] | None:
    """Return the error object of a refusal by a content filter; None if it is something else."""
    if status not in _MAY_BE_MODERATION:
        return None
    inner = _object(error.get("inner_error")) or _object(error.get("innererror"))
    metadata = _object(error.get("metadata"))
    message = error.get("message")
    message = message if isinstance(message, str) and message else "The request was refused by a content filter."
    codes = {str(value).lower() for value in (error.get("code"), inner.get("code")) if value is not None}
    flagged = "flagged_input" in metadata or "reasons" in metadata
    if not (codes & _FILTERED or flagged or _REFUSED.search(message)):
        return None
    if isinstance(error.get("moderation_details"), dict):  # it speaks this API's own words already
        return dict(error)
    results = _object(inner.get("content_filter_results")) or _object(error.get("content_filter_results"))
    reasons = metadata.get("reasons")
    named = _filtered(results) or (reasons if isinstance(reasons, list) else [])
    categories = [text for text in named if isinstance(text, str) and _CATEGORY.fullmatch(text)]
    stage = "input" if flagged else "output" if _OUTPUT.search(message) else "unknown"
    more = {"content_filter_results": results} if results else {}
    return moderated_body(message, categories, stage, **more)


def _object(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def _filtered(results: Object) -> list[object]:
    """Return the categories that a content filter objected to."""
    return [
        name
        for name, result in results.items()
        if isinstance(result, dict) and (result.get("filtered") is True or result.get("detected") is True)
    ]
