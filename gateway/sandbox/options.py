"""What a sandbox can be told before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

DEFAULT_KEY = "sk-sandbox"
"""What our own clients send where no key was chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """How the simulated providers behave.

    `api_key` is the one key that every provider accepts (None: any that is not empty). `latency` is seconds of work per
    request. `images_per_minute` limits an account by model family (`gpt-image`, `chatgpt-image`), a number alone every
    family; one that is not named, and the other two limits by default, are so high that nobody meets them.
    `kept_requests` is how many requests `GET /sandbox/requests` goes back.

    Of providers that answer later: `work_seconds` is how long a piece of work takes, a third of it in the queue;
    `link_seconds` how long a result link lives (None: as long as at the real provider); `active_tasks` how much an
    account may have under way (None: as at the real provider); `callback_delay` seconds from the end of the work until
    the client is called back; `callback_pace` what the waits between further tries are multiplied by. `sister_host` and
    `delivery_host` are host names that a provider sends its clients to for polling and for results, where it does
    that (empty: the host that they came by). `batch_seconds` is how long a batch takes.
    """

    api_key: str | None = None
    latency: float = 0.15
    images_per_minute: int | Mapping[str, int] = field(default_factory=dict)
    requests_per_minute: int = 1_000_000
    tokens_per_minute: int = 100_000_000_000
    kept_requests: int = 10_000
    work_seconds: float = 0.3
    link_seconds: float | None = None
    active_tasks: int | None = None
    callback_delay: float = 0.0
    callback_pace: float = 1.0
    sister_host: str = ""
    delivery_host: str = ""
    batch_seconds: float = 1.0

    def accepts(self, key: str | None) -> bool:
        """Tell whether a provider takes a key that a client sent."""
        return bool(key) and self.api_key in (None, key)

    @property
    def accepted(self) -> str:
        """Which keys the providers take, in words that name none."""
        return "any key" if self.api_key is None else "the key chosen at the start alone"
