"""Unsupported: a job that a provider cannot be sent as it is; nothing has left, and another route may do it."""

from __future__ import annotations

from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure

UNSUPPORTED = "unsupported"
"""The reason of such a failure. It says nothing of the route's health."""


def unsupported(message: str) -> UpstreamFailure:
    """Return the failure of a job that this provider has no way to be asked for, in words for the caller."""
    return UpstreamFailure(Outcome.NOT_SENT, UNSUPPORTED, message)
