"""OpenAI's errors: the envelope, and the texts and codes seen from the real service."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

USER_ERROR = "image_generation_user_error"
_INVALID = "invalid_request_error"
_DEPRECATIONS = "https://platform.openai.com/docs/deprecations"


class ApiError(Exception):
    """An error answer: `{"error": {"message", "type", "param", "code", ...}}`."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = _INVALID,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body: dict[str, object] = {
            "error": {"message": message, "type": kind, "param": param, "code": code, **(more or {})}
        }


def no_key() -> ApiError:
    """No bearer key was sent."""
    return ApiError(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
        "(i.e. Authorization: Bearer YOUR_KEY), or as the password field (with blank username) if you're accessing the "
        "API from your browser and are prompted for a username and password. You can obtain an API key from "
        "https://platform.openai.com/account/api-keys.",
    )


def wrong_key(key: str) -> ApiError:
    """The key is not the account's; it is shown in part, as OpenAI does."""
    shown = f"{key[:8]}{'*' * max(0, len(key) - 12)}{key[-4:]}" if len(key) > 12 else "*" * len(key)  # noqa: PLR2004 - the parts shown
    return ApiError(
        401,
        f"Incorrect API key provided: {shown}. "
        "You can find your API key at https://platform.openai.com/account/api-keys.",
        code="invalid_api_key",
    )


def bad_json() -> ApiError:
    """The body is not JSON, or not an object."""
    return ApiError(
        400,
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP library "
        "correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON. If you have trouble "
        "figuring out how to fix this, please contact us through our help center at help.openai.com.)",
    )


def unsupported_content_type(given: str, expected: str) -> ApiError:
    """The body is of a kind that the endpoint does not read."""
    return ApiError(
        400,
        f"Unsupported content type: '{given}'. This API method only accepts '{expected}' requests, but you specified "
        f"the header 'Content-Type: {given}'. Please try again with a supported content type.",
        code="unsupported_content_type",
    )


def missing(param: str) -> ApiError:
    """A required parameter is absent."""
    return ApiError(400, f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")


def unknown(param: str) -> ApiError:
    """A parameter that this model or endpoint does not have."""
    return ApiError(400, f"Unknown parameter: '{param}'.", param=param, code="unknown_parameter")


def duplicate(param: str) -> ApiError:
    """A form field that may come once came again."""
    return ApiError(
        400,
        f"Duplicate parameter: '{param}'. You provided multiple values for this parameter, whereas only one is "
        "allowed. If you are trying to provide a list of values, "
        f"use the array syntax instead e.g. '{param}[]=<value>'.",
        param=param,
        code="duplicate_parameter",
    )


def wrong_type(param: str, expected: str, got: str) -> ApiError:
    """A value of the wrong JSON type."""
    return ApiError(
        400,
        f"Invalid type for '{param}': expected {expected}, but got {got} instead.",
        param=param,
        code="invalid_type",
    )


def not_among(param: str, value: str, allowed: Iterable[str]) -> ApiError:
    """A word that is not one of the parameter's."""
    *most, last = [f"'{word}'" for word in allowed]
    listed = f"{', '.join(most)}, and {last}" if most else last
    return ApiError(
        400, f"Invalid value: '{value}'. Supported values are: {listed}.", param=param, code="invalid_value"
    )


def below(param: str, minimum: int, value: int) -> ApiError:
    """A number that is too small."""
    return ApiError(
        400,
        f"Invalid '{param}': integer below minimum value. Expected a value >= {minimum}, but got {value} instead.",
        param=param,
        code="integer_below_min_value",
    )


def above(param: str, maximum: int, value: int) -> ApiError:
    """A number that is too large."""
    return ApiError(
        400,
        f"Invalid '{param}': integer above maximum value. Expected a value <= {maximum}, but got {value} instead.",
        param=param,
        code="integer_above_max_value",
    )


def too_long(param: str, maximum: int, length: int) -> ApiError:
    """A text that is too long, in characters."""
    return ApiError(
        400,
        f"Invalid '{param}': string too long. Expected a string with maximum length {maximum}, "
        f"but got a string with length {length} instead.",
        param=param,
        code="string_above_max_length",
    )


def empty(param: str) -> ApiError:
    """A text of no length."""
    return ApiError(
        400,
        f"Invalid '{param}': empty string. Expected a string with minimum length 1, but got an empty string instead.",
        param=param,
        code="empty_string",
    )


def too_many(param: str, maximum: int, length: int) -> ApiError:
    """A list that is too long."""
    return ApiError(
        400,
        f"Invalid '{param}': array too long. Expected an array with maximum length {maximum}, "
        f"but got an array with length {length} instead.",
        param=param,
        code="array_above_max_length",
    )


def user_error(message: str, param: str | None, code: str = "invalid_value") -> ApiError:
    """Something that this image model does not do."""
    return ApiError(400, message, kind=USER_ERROR, param=param, code=code)


def model_not_found(model: str) -> ApiError:
    """A model that never was, or is not for this account."""
    return ApiError(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        param="model",
        code="model_not_found",
    )


def model_retired(model: str) -> ApiError:
    """A model that was shut down."""
    return ApiError(
        404,
        f"The model `{model}` has been deprecated, learn more here: {_DEPRECATIONS}",
        param="model",
        code="model_not_found",
    )


def endpoint_retired(path: str) -> ApiError:
    """An endpoint that was shut down; OpenAI only says that it no longer accepts requests, the status is assumed."""
    return ApiError(
        404,
        f"The endpoint `{path}` has been deprecated and no longer accepts requests, learn more here: {_DEPRECATIONS}",
    )


def no_such_url(method: str, path: str) -> ApiError:
    """Nothing answers there."""
    return ApiError(404, f"Invalid URL ({method} {path})")


def wrong_method(method: str, path: str) -> ApiError:
    """The URL exists, but not for this method."""
    return ApiError(405, f"Invalid method for URL ({method} {path})")


def moderation_blocked(request_id: str, stage: str, categories: Iterable[str]) -> ApiError:
    """The safety system said no; `stage` is input, output or unknown."""
    return ApiError(
        400,
        "Your request was rejected by the safety system. If you believe this is an error, contact us at "
        f"help.openai.com and include the request ID {request_id}.",
        kind=USER_ERROR,
        code="moderation_blocked",
        more={"moderation_details": {"moderation_stage": stage, "categories": list(categories)}},
    )
