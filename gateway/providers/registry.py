"""Registry: which kinds of provider there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from gateway.domain.route import ProviderConfig
from gateway.ports import Provider
from gateway.providers.fanout import FanOut
from gateway.providers.openai import OpenAIProvider

KINDS: Final[Mapping[str, Callable[[ProviderConfig], Provider]]] = {
    "openai": OpenAIProvider,
}
"""By the word that policy uses for `kind`."""


def open_provider(config: ProviderConfig) -> Provider:
    """Make the provider for a configuration; it connects on first use.

    Raises ValueError, with a message for the operator, if the kind is unknown or the configuration cannot be used.
    """
    kind = KINDS.get(config.kind)
    if kind is None:
        raise ValueError(f"provider {config.name}: kind {config.kind!r} is not one of {', '.join(sorted(KINDS))}")
    return FanOut(kind(config))
