"""Errors in the shape of `google.rpc.Status`."""

from __future__ import annotations

from collections.abc import Sequence

_TYPE = "type.googleapis.com/google.rpc."
_WORDS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """An error answer; `word` is the canonical name of the status where it is not the usual one."""

    def __init__(
        self, status: int, message: str, *, word: str | None = None, details: Sequence[dict[str, object]] = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        error: dict[str, object] = {
            "code": status,
            "message": message,
            "status": word or _WORDS.get(status, "UNKNOWN"),
        }
        self.body = {"error": error | ({"details": list(details)} if details else {})}


def no_key() -> ApiError:
    """No key was sent."""
    return ApiError(
        403,
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
        "form of API consumer identity to call this API.",
    )


def wrong_key() -> ApiError:
    """The key is not the account's: a 400, of all things."""
    info: dict[str, object] = {"@type": f"{_TYPE}ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    return ApiError(400, "API key not valid. Please pass a valid API key.", details=[info])


def no_model(name: str) -> ApiError:
    """There is no such model."""
    return ApiError(
        404,
        f"models/{name} is not found for API version v1beta, or is not supported for generateContent. Call ListModels "
        "to see the list of available models and their supported methods.",
    )


def unknown_field(path: str, name: str) -> ApiError:
    """A field that the API does not have."""
    where = f" at '{path}'" if path else ""
    return ApiError(400, f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')


def rate_limited(retry_after: object) -> ApiError:
    """The account's quota of a minute is used up; when to come again stands in the details alone."""
    quota: dict[str, object] = {
        "@type": f"{_TYPE}QuotaFailure",
        "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}],
    }
    details = [quota]
    if retry_after is not None:
        delay = retry_after if isinstance(retry_after, str) else f"{retry_after}s"
        details.append({"@type": f"{_TYPE}RetryInfo", "retryDelay": delay})
    return ApiError(
        429, "You exceeded your current quota, please check your plan and billing details.", details=details
    )
