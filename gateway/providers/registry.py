"""Registry: which kinds of provider there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.domain.route import ProviderConfig
from gateway.ports.provider import Provider, ProviderServices
from gateway.providers.batch import BatchProvider, WithBatches
from gateway.providers.fanout import FanOut
from gateway.providers.gemini import GeminiProvider
from gateway.providers.openai import OpenAIProvider
from gateway.providers.profiled import ProfiledProvider
from gateway.providers.task import TaskProvider

KINDS: Final[Mapping[str, Callable[[ProviderConfig, ProviderServices], Provider]]] = {
    "openai": lambda config, services: (
        OpenAIProvider(config, services) if config.profile.plain else ProfiledProvider(config, services)
    ),
    "task": TaskProvider,
    "gemini": GeminiProvider,
}
"""By the word that policy uses for `kind`."""


def open_provider(config: ProviderConfig, services: ProviderServices | None = None) -> Provider:
    """Make the provider for a configuration; it connects on first use.

    Raises ValueError, with a message for the operator, if the kind is unknown or the configuration cannot be used.
    """
    kind = KINDS.get(config.kind)
    if kind is None:
        raise ValueError(f"provider {config.name}: kind {config.kind!r} is not one of {', '.join(sorted(KINDS))}")
    return FanOut(kind(config, services or ProviderServices()))


def with_batches(direct: Provider, config: ProviderConfig, services: ProviderServices) -> Provider:
    """Return a provider that does calls which go by batch so, and all others as `direct` does.

    Raises ValueError as `open_provider` does.
    """
    return WithBatches(direct, FanOut(BatchProvider(config, services)))
