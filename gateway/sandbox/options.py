"""What a sandbox can be told before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_KEY = "sk-sandbox"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How the simulated providers behave.

    `api_key` is the one key that every provider accepts. `latency` is seconds of work per request.
    `images_per_minute` limits an account by model family (`gpt-image`, `chatgpt-image`), a number alone every family;
    one that is not named, and the other two limits by default, are so high that nobody meets them.
    `kept_requests` is how many requests `GET /sandbox/requests` goes back.
    """

    api_key: str = DEFAULT_KEY
    latency: float = 0.15
    images_per_minute: int | Mapping[str, int] = field(default_factory=dict)
    requests_per_minute: int = 1_000_000
    tokens_per_minute: int = 100_000_000_000
    kept_requests: int = 10_000
