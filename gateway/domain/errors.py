"""Every error a caller can get, in OpenAI's shape.

GatewayError                       status  type                   code
├── InvalidRequest                 400     invalid_request_error  invalid_value, invalid_json, …
│   ├── UnsupportedByEveryRoute    400     invalid_request_error  unsupported_by_every_route
│   ├── UnsupportedMediaType       415     invalid_request_error  unsupported_media_type
│   └── RequestTooLarge            413     invalid_request_error  request_too_large
├── InvalidApiKey                  401     invalid_request_error  invalid_api_key
├── BudgetExceeded                 402     insufficient_quota     project_spend_limit_exceeded, max_cost_exceeded
├── Forbidden                      403     permission_error       job_type_not_allowed, lane_not_allowed, …
├── NotFound                       404     invalid_request_error  model_not_found, not_found
├── MethodNotAllowed               405     invalid_request_error  method_not_allowed
├── IdempotencyKeyReused           409     idempotency_error      idempotency_key_reused
├── NotCancellable                 409     invalid_request_error  not_cancellable
├── Retired                        410     invalid_request_error  endpoint_retired
├── RateLimited                    429     requests               rate_limit_exceeded
├── ClientGone                     499     invalid_request_error  client_gone
├── UpstreamError                  502     server_error           upstream_error
├── UpstreamTimeout                504     server_error           upstream_timeout
├── Unavailable                    503     server_error           ledger_unavailable, overloaded, shutting_down
└── InternalError                  500     server_error           internal_error
"""

from __future__ import annotations

import json
from collections.abc import Mapping

MAX_RETRY_AFTER = 60.0
"""Seconds; beyond it OpenAI's Node SDK ignores the header and retries at once (measured)."""


class GatewayError(Exception):
    """An error with all that its HTTP answer needs. `should_retry` becomes `x-should-retry` where it is not None."""

    status = 500
    type = "server_error"
    default_code = "internal_error"
    should_retry: bool | None = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after = None if retry_after is None else min(max(retry_after, 0.05), MAX_RETRY_AFTER)
        if should_retry is not None:
            self.should_retry = should_retry
        self.details = dict(details or {})
        self.headers: list[tuple[str, str]] = []

    def body(self) -> dict[str, object]:
        """Return the JSON object that the caller gets."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": {**error, **self.details}}

    def written(self) -> bytes:
        """Return it as it is sent."""
        return json.dumps(self.body()).encode()


class InvalidRequest(GatewayError):
    """The request itself is wrong; the message names the field and the remedy."""

    status = 400
    type = "invalid_request_error"
    default_code = "invalid_value"


class UnsupportedByEveryRoute(InvalidRequest):
    """No route of the job type can do what is asked; the message says why of each."""

    default_code = "unsupported_by_every_route"


class UnsupportedMediaType(InvalidRequest):
    """A content type or content encoding that this endpoint does not read."""

    status = 415
    default_code = "unsupported_media_type"


class RequestTooLarge(InvalidRequest):
    """The body is larger than the gateway accepts."""

    status = 413
    default_code = "request_too_large"


class InvalidApiKey(GatewayError):
    """No key, a malformed one, an unknown one, or a revoked one."""

    status = 401
    type = "invalid_request_error"
    default_code = "invalid_api_key"


class BudgetExceeded(GatewayError):
    """Money: a budget is spent, or the caller's own maximum is below every route's price. Never retried by SDKs."""

    status = 402
    type = "insufficient_quota"
    default_code = "project_spend_limit_exceeded"


class Forbidden(GatewayError):
    """The key is good, but its project may not do this."""

    status = 403
    type = "permission_error"
    default_code = "job_type_not_allowed"


class NotFound(GatewayError):
    """No such path, model, or record that this key may see."""

    status = 404
    type = "invalid_request_error"
    default_code = "not_found"


class MethodNotAllowed(GatewayError):
    """The path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    default_code = "method_not_allowed"


class IdempotencyKeyReused(GatewayError):
    """The key of an earlier request came with another one; a retry as it is could only meet the same answer."""

    status = 409
    type = "idempotency_error"
    default_code = "idempotency_key_reused"
    should_retry = False  # an SDK repeats any 409 that does not say so


class NotCancellable(GatewayError):
    """A task that has ended, or whose call cannot be taken back; the message says which."""

    status = 409
    type = "invalid_request_error"
    default_code = "not_cancellable"
    should_retry = False  # an SDK repeats any 409 that does not say so


class Retired(GatewayError):
    """An endpoint that the vendor shut down."""

    status = 410
    type = "invalid_request_error"
    default_code = "endpoint_retired"


class ClientGone(GatewayError):
    """The client hung up before its answer came; nobody is left to read this one but logs and metrics."""

    status = 499
    type = "invalid_request_error"
    default_code = "client_gone"


class RateLimited(GatewayError):
    """A quota, or every route is at its limit; passes with time."""

    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"


class UpstreamError(GatewayError):
    """All routes failed."""

    status = 502
    default_code = "upstream_error"


class UpstreamTimeout(GatewayError):
    """The provider did not answer in time; it may have done and billed the work."""

    status = 504
    default_code = "upstream_timeout"


class Unavailable(GatewayError):
    """The gateway cannot take new work now."""

    status = 503
    default_code = "overloaded"


def ledger_unavailable() -> Unavailable:
    """Return the error for what the ledger alone could tell or do; it does not answer, or answers and refuses."""
    return Unavailable("The ledger is not available.", code="ledger_unavailable", retry_after=2)


class InternalError(GatewayError):
    """A bug; the message carries the request id alone."""
