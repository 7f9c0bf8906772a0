"""Tracing: what the core and its adapters need of it. Where nothing is traced, there is nothing of it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Final, Protocol

from gateway.ports import Headers

TRACE_HEADERS: Final[ContextVar[Headers]] = ContextVar("trace_headers", default=())
"""`traceparent` and `tracestate` of the span under way (W3C Trace Context), never `baggage`; empty if there is none."""


class Choice(Protocol):
    """Takes note of what was chosen from."""

    def made(self, first: str, candidates: int, passed_over: int) -> None:
        """Tell the name of the route that comes first, how many can do it, and how many cannot."""


class Choices(Protocol):
    """Takes the time of decisions."""

    def choosing(self) -> AbstractContextManager[Choice]:
        """Return what stands around one decision; errors go through it."""
