"""Calls to providers, and the only place that knows vendors."""

from gateway.providers.registry import KINDS, open_provider, with_batches

__all__ = ["KINDS", "open_provider", "with_batches"]
