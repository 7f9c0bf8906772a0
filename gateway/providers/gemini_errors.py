"""Gemini errors: what went wrong, in the shape of the API that is served here.

| what comes                                                       | becomes                                         |
|------------------------------------------------------------------|-------------------------------------------------|
| `{"error": {"code", "message", "status", "details"}}`, or a list | `message`; `code` is the status in lower case   |
| 400 with the reason `API_KEY_INVALID` and the like               | 401: the account's fault, not the caller's      |
| 400 `FAILED_PRECONDITION` (billing, region)                      | 403: the account's fault, not the caller's      |
| `RetryInfo.retryDelay` (`"30s"`)                                 | as `retry-after` would, which is not sent       |
| 200, no image, `promptFeedback.blockReason`                      | 400 `moderation_blocked`, stage `input`         |
| 200, no image, `finishReason` of a filter                        | 400 `moderation_blocked`, stage `output`        |
| 200, no image, any other `finishReason`                          | no image: worth one more try                    |

A refusal in a 200 counts tokens, which are billed where the price row says that refusals are (`charged_for`).
Sources: `google.rpc` (`Status`, `ErrorInfo`, `RetryInfo`); `google-genai` 3.4.0 (`types.BlockedReason`,
`types.FinishReason`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Final

from gateway.domain.price import Charged
from gateway.domain.settlement import Outcome, Reading
from gateway.ports.provider import UpstreamFailure
from gateway.providers.foreign_errors import moderated_body
from gateway.providers.usage import MISSING, ZERO_OUTPUT

NO_IMAGE: Final = "no_image"
"""The reason of a call that worked and brought none."""

_FILTERS: Final = frozenset(
    {
        "BLOCKLIST",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_SAFETY",
        "PROHIBITED_CONTENT",
        "RECITATION",
        "SAFETY",
        "SPII",
    }
)
"""Reasons to stop that are judgements of what was asked for, or of what was made."""
_KEY: Final = "API_KEY_"
_DELAY: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s", re.ASCII)
_WORD: Final = re.compile(r"[A-Z_]{1,64}", re.ASCII)

Object = Mapping[str, object]


def in_shape(status: int, headers: Mapping[str, str], body: bytes) -> tuple[int, Mapping[str, str], bytes]:
    """Return status, headers and body of an error as `of_status` judges them; what is unreadable stays as it came."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return status, headers, body
    document = next(iter(document), None) if isinstance(document, list) else document
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        return status, headers, body
    details = _objects(error.get("details"))
    word, message = error.get("status"), error.get("message")
    reasons = [str(detail.get("reason")) for detail in details]
    if status == HTTPStatus.BAD_REQUEST and any(reason.startswith(_KEY) for reason in reasons):
        status = HTTPStatus.UNAUTHORIZED
    elif status == HTTPStatus.BAD_REQUEST and word == "FAILED_PRECONDITION":
        status = HTTPStatus.FORBIDDEN
    delay = next((match[1] for each in details if (match := _DELAY.fullmatch(str(each.get("retryDelay"))))), None)
    if delay is not None and "retry-after" not in headers:
        headers = {**headers, "retry-after": delay}
    own = {
        "message": message if isinstance(message, str) and message else f"The provider answered {status}.",
        "type": "requests" if status == HTTPStatus.TOO_MANY_REQUESTS else _kind(status),
        "param": None,
        "code": word.lower() if isinstance(word, str) and _WORD.fullmatch(word) else None,
    }
    return status, headers, json.dumps({"error": own}).encode()


def refusal(document: Object, reading: Reading) -> UpstreamFailure:
    """Return the failure of an answer that holds no image. `reading` is what it says that it took."""
    feedback = document.get("promptFeedback")
    feedback = feedback if isinstance(feedback, dict) else {}
    candidates = _objects(document.get("candidates"))
    reasons = [reason for each in candidates if isinstance(reason := each.get("finishReason"), str)]
    blocked, filtered = feedback.get("blockReason"), next((each for each in reasons if each in _FILTERS), None)
    if isinstance(blocked, str):
        return _moderated("input", blocked, _categories([feedback]), reading)
    if filtered is not None:
        return _moderated("output", filtered, _categories(candidates), reading)
    why = next((reason for reason in reasons if _WORD.fullmatch(reason)), "no reason given")
    return UpstreamFailure(
        Outcome.REJECTED,
        NO_IMAGE,
        f"the provider answered without an image ({why})",
        charged_for=Charged.FAILED if _counted(reading) else None,
        reading=reading if reading.usage else None,
    )


def _moderated(stage: str, reason: str, categories: list[str], reading: Reading) -> UpstreamFailure:
    word = reason if _WORD.fullmatch(reason) else "OTHER"
    what = "The prompt, or an image that came with it," if stage == "input" else "What was made of the prompt"
    body = {"error": moderated_body(f"{what} was blocked by the provider ({word}).", categories, stage)}
    return UpstreamFailure(
        Outcome.REJECTED,
        "status_4xx",
        f"the provider blocked the {stage} ({word})",
        status=HTTPStatus.BAD_REQUEST,
        headers=[("content-type", "application/json")],
        body=json.dumps(body).encode(),
        pass_on=True,
        charged_for=Charged.MODERATED if _counted(reading) else None,
        reading=reading if reading.usage else None,
    )


def _counted(reading: Reading) -> bool:
    """Tell whether tokens were counted, be it in a way that cannot be read: how many it were is then not known."""
    return reading.usage is not None or reading.usage_problem not in (MISSING, ZERO_OUTPUT)


def _categories(judged: Iterable[Object]) -> list[str]:
    """The categories that were objected to, in plain words."""
    ratings = [rating for each in judged for rating in _objects(each.get("safetyRatings"))]
    blocked = [str(rating.get("category")) for rating in ratings if rating.get("blocked") is True]
    return [word.removeprefix("HARM_CATEGORY_").lower() for word in blocked if _WORD.fullmatch(word)]


def _kind(status: int) -> str:
    return "invalid_request_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "server_error"


def _objects(value: object) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
