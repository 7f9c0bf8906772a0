"""Tracing: one more observer of what happens, by OpenTelemetry, an extra that is imported only where it is on."""

from __future__ import annotations

import importlib
import logging
from typing import Protocol

from gateway.observe.event import Observer
from gateway.ports.egress import Fetcher
from gateway.ports.provider import Provider
from gateway.ports.tracing import Choices

EXTRA = "image-gateway[tracing]"
_IMPLEMENTATION = "gateway.observe.spans"


class TracingUnavailable(Exception):
    """Tracing cannot be had here; the message is for whoever starts the gateway."""


class Tracing(Observer, Choices, Protocol):
    """Makes spans of events, and of calls that leave the process. One instance per process."""

    def provider(self, provider: Provider) -> Provider:
        """Return a provider of whose calls each has a span."""

    def callbacks(self, fetcher: Fetcher) -> Fetcher:
        """Return a fetcher of whose posts each has a span."""

    def label(self, handler: logging.Handler) -> None:
        """Let a handler's log lines name the trace and the span in which they were written."""

    def close(self) -> None:
        """Send what is left, for as long as the exporter's timeout allows, and end."""


def open_tracing() -> Tracing:
    """Return what traces as the standard `OTEL_*` variables say; TracingUnavailable, with what is wrong.

    Spans are sent by a thread of their own, in batches.
    """
    try:
        # Not at the top: it is not installed with every gateway, and takes time to load.
        spans = importlib.import_module(_IMPLEMENTATION)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "opentelemetry":
            raise
        raise TracingUnavailable(f"tracing needs OpenTelemetry: install {EXTRA}") from error
    tracing: Tracing = spans.exported()
    return tracing
