"""Task outcome: what it means, for money and for whoever asked, that work was refused, failed or got lost.

| a profile's word | outcome  | reason      | shown to the caller                  |
|------------------|----------|-------------|--------------------------------------|
| moderated        | REJECTED | status_4xx  | 400, as OpenAI tells of a moderation |
| invalid          | REJECTED | status_4xx  | 400, with the provider's words       |
| retryable        | REJECTED | status_5xx  | no                                   |
| lasting          | REJECTED | task_failed | no                                   |
| cancelled        | REJECTED | cancelled   | no                                   |
| unknown          | UNKNOWN  | task_failed | no                                   |

Work that was taken on may be charged for though it failed, where the provider or the price row says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from http import HTTPStatus

from gateway.domain.json_path import first
from gateway.domain.price import Charged
from gateway.domain.settlement import Outcome, Reading
from gateway.domain.task_profile import Fault, TaskProfile
from gateway.ports.provider import UpstreamFailure
from gateway.providers.foreign_errors import PLAIN_CODE
from gateway.providers.outcome import of_status, scrub
from gateway.providers.task_wire import Reply

_LONGEST_MESSAGE = 500
_LINK = re.compile(r"\bhttps?://\S+", re.IGNORECASE)
_REFUSED = "The request was refused by the provider's content policy."

_JUDGED: Mapping[Fault, tuple[Outcome, str, Charged]] = {
    Fault.MODERATED: (Outcome.REJECTED, "status_4xx", Charged.MODERATED),
    Fault.INVALID: (Outcome.REJECTED, "status_4xx", Charged.INVALID),
    Fault.RETRYABLE: (Outcome.REJECTED, "status_5xx", Charged.FAILED),
    Fault.LASTING: (Outcome.REJECTED, "task_failed", Charged.FAILED),
    Fault.CANCELLED: (Outcome.REJECTED, "cancelled", Charged.FAILED),
    Fault.UNKNOWN: (Outcome.UNKNOWN, "task_failed", Charged.FAILED),
}


def error_code(profile: TaskProfile, document: object) -> str | None:
    """Return the code of the error that a document tells, `error` if it has none; None if it tells of no error.

    Codes are words or numbers, as providers like it.
    """
    code = first(document, *profile.error_code)
    if isinstance(code, int | Decimal) and not isinstance(code, bool):
        return str(code)
    if isinstance(code, str) and code.strip():
        return code.strip() if PLAIN_CODE.fullmatch(code.strip()) else "error"
    return "error" if error_message(profile, document, None) else None


def error_message(profile: TaskProfile, document: object, secret: str | None) -> str:
    """Return the words of the error that a document tells, without links and secrets; "" if it tells none."""
    message = first(document, *profile.error_message)
    if not isinstance(message, str):
        return ""
    # JavaScript writes half a character where it has cut a text within one.
    plain = scrub(_LINK.sub("(link)", message).encode("utf-8", "replace"), secret).decode("utf-8", "replace")
    return " ".join(plain.split())[:_LONGEST_MESSAGE]


def fault_of(profile: TaskProfile, message: str, *codes: str | None) -> Fault | None:
    """Return what the first code means that the profile knows, else what the message's words do; None if nothing."""
    for code in codes:
        if code is not None and code in profile.faults:
            return profile.faults[code]
    said = message.casefold()
    return next((fault for words, fault in profile.fault_words.items() if _says(said, words.casefold())), None)


def _says(message: str, words: str) -> bool:
    """Tell whether words stand in a message as a whole: `E005` does in `(E005)`, not in `E0051`."""
    return re.search(rf"(?<![a-z0-9]){re.escape(words)}(?![a-z0-9])", message) is not None


def of_fault(fault: Fault, code: str, message: str, reading: Reading | None = None) -> UpstreamFailure:
    """Judge work that was taken on and failed. `message` is the provider's, fit for callers, or nothing."""
    outcome, reason, charged = _JUDGED[fault]
    told = f"the provider's work failed ({code})" + (f": {message}" if message else "")
    shown = fault in (Fault.MODERATED, Fault.INVALID)
    return UpstreamFailure(
        outcome,
        reason,
        told,
        status=HTTPStatus.BAD_REQUEST if shown else None,
        code=code,
        headers=[("content-type", "application/json")] if shown else (),
        body=_shown(fault, code, message) if shown else b"",
        pass_on=shown,
        charged_for=None if fault is Fault.UNKNOWN else charged,
        reading=reading,
    )


def _shown(fault: Fault, code: str, message: str) -> bytes:
    """Return the error that the caller sees, in OpenAI's shape."""
    if fault is Fault.MODERATED:
        kind, code, details = "image_generation_user_error", "moderation_blocked", {"moderation_stage": "unknown"}
        error = {"message": message or _REFUSED, "type": kind, "param": None, "code": code}
        return json.dumps({"error": {**error, "moderation_details": {**details, "categories": []}}}).encode()
    told = message or "The provider found the request invalid."
    return json.dumps(
        {"error": {"message": told, "type": "invalid_request_error", "param": None, "code": code}}
    ).encode()


def of_refusal(profile: TaskProfile, reply: Reply, secret: str | None) -> UpstreamFailure:
    """Judge a submission that was answered by no 2xx: by its status, and by its code where the profile knows that."""
    failure = of_status(reply.status, reply.headers, reply.body, passed=reply.shown, secret=secret, foreign=True)
    code = error_code(profile, reply.document)
    message = error_message(profile, reply.document, secret)
    fault = fault_of(profile, message, code)
    if failure.outcome is not Outcome.REJECTED or fault not in (Fault.MODERATED, Fault.INVALID):
        return failure
    judged = of_fault(fault, code or "error", message)
    judged.rate_limits = failure.rate_limits
    return judged


def lost(message: str, reason: str = "lost") -> UpstreamFailure:
    """Return the failure of work whose outcome is unknown."""
    return UpstreamFailure(Outcome.UNKNOWN, reason, message)
