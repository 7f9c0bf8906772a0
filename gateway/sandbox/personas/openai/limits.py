"""OpenAI's rate limits: three allowances per model family that refill steadily, and the headers that tell of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.personas.openai.errors import ApiError

ORGANIZATION = "org-sandbox"
_MINUTE = 60.0
_NO_LIMIT = 1_000_000
_NAMES = {
    "requests": "requests per min (RPM)",
    "tokens": "tokens per min (TPM)",
    "input-images": "input-images per min",
}


@dataclass(slots=True)
class _Allowance:
    """Units per minute, refilled continuously; `available` is as of `at` (monotonic seconds)."""

    limit: int
    available: float
    at: float

    def refill(self, now: float) -> None:
        self.available = min(self.limit, self.available + (now - self.at) * self.limit / _MINUTE)
        self.at = now

    def wait_for(self, units: float) -> float:
        """Seconds until so many units are there."""
        return max(0.0, (units - self.available) * _MINUTE / self.limit)


class RateLimits:
    """The account's allowances. A request that one of them refuses uses up none."""

    def __init__(self, options: SandboxOptions) -> None:
        self._options = options
        self._families: dict[str, dict[str, _Allowance]] = {}

    def take(self, family: str, model: str, *, images: int, tokens: int) -> None:
        """Use up what a request needs, or raise the 429 of the first allowance that falls short."""
        wanted = {"requests": 1, "tokens": tokens, "input-images": images}
        allowances = self._refilled(family)
        for kind, units in wanted.items():
            if allowances[kind].available < units:
                raise self._refusal(kind, family, model, allowances[kind], units)
        for kind, units in wanted.items():
            allowances[kind].available -= units

    def headers(self, family: str) -> dict[str, str]:
        """Return `x-ratelimit-{limit,remaining,reset}-{requests,tokens,input-images}` as of now."""
        headers: dict[str, str] = {}
        for kind, allowance in self._refilled(family).items():
            headers[f"x-ratelimit-limit-{kind}"] = str(allowance.limit)
            headers[f"x-ratelimit-remaining-{kind}"] = str(int(allowance.available))
            headers[f"x-ratelimit-reset-{kind}"] = duration(allowance.wait_for(allowance.limit))
        return headers

    def refusal_by_fault(self, family: str, model: str, retry_after: float | str | None) -> ApiError:
        """Return a 429 that says what a fault wants said."""
        allowance = self._refilled(family)["input-images"]
        seconds = float(retry_after) if isinstance(retry_after, int | float) else 1.0
        message = _message(
            family,
            model,
            "input-images",
            limit=allowance.limit,
            used=allowance.limit,
            requested=1,
            wait=duration(seconds),
        )
        return _too_many_requests(
            "input-images",
            message,
            {
                **self.headers(family),
                "x-ratelimit-remaining-input-images": "0",
                "x-ratelimit-reset-input-images": duration(seconds),
                **retry_headers(retry_after),
            },
        )

    def _refusal(self, kind: str, family: str, model: str, allowance: _Allowance, units: int) -> ApiError:
        wait = allowance.wait_for(units)
        used = allowance.limit - int(allowance.available)
        message = _message(family, model, kind, limit=allowance.limit, used=used, requested=units, wait=duration(wait))
        return _too_many_requests(kind, message, {**self.headers(family), **retry_headers(wait)})

    def _refilled(self, family: str) -> dict[str, _Allowance]:
        now = time.monotonic()
        if family not in self._families:
            per_minute = self._options.images_per_minute
            limits = {
                "requests": self._options.requests_per_minute,
                "tokens": self._options.tokens_per_minute,
                "input-images": per_minute if isinstance(per_minute, int) else per_minute.get(family, _NO_LIMIT),
            }
            self._families[family] = {kind: _Allowance(limit, limit, now) for kind, limit in limits.items()}
        for allowance in self._families[family].values():
            allowance.refill(now)
        return self._families[family]


def retry_headers(wait: float | str | None) -> Mapping[str, str]:
    """Return `retry-after` (whole seconds, rounded up) and `retry-after-ms`; a text alone is sent as it is."""
    if wait is None:
        return {}
    if isinstance(wait, str):
        return {"retry-after": wait}
    return {"retry-after": str(int(-(-wait // 1))), "retry-after-ms": str(int(-(-wait * 1000 // 1)))}


def duration(seconds: float) -> str:
    """Write seconds as OpenAI does: `120ms`, `12s`, `58.891s`, `1m2.5s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 3), 60)
    tail = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(minutes)}m{tail}" if minutes else tail


def _message(family: str, model: str, kind: str, *, limit: int, used: int, requested: int, wait: str) -> str:
    return (
        f"Rate limit reached for {model} (for limit {family}) in organization {ORGANIZATION} on {_NAMES[kind]}: "
        f"Limit {limit}, Used {used}, Requested {requested}. Please try again in {wait}. "
        "Visit https://platform.openai.com/account/rate-limits to learn more."
    )


def _too_many_requests(kind: str, message: str, headers: Mapping[str, str]) -> ApiError:
    return ApiError(429, message, kind=kind, code="rate_limit_exceeded", headers=headers)
