"""Unusable answers: those with a 2xx (incomplete, or without an image), and the errors they become."""

from __future__ import annotations

from gateway.domain.errors import GatewayError, UpstreamError
from gateway.domain.settlement import Reading
from gateway.ports.provider import UpstreamFailure
from gateway.request.exhausted import unknown


def unusable_answer(
    reading: Reading, broken: UpstreamFailure | None, *, event_stream: bool, confirmed: bool
) -> GatewayError | None:
    """Return the error for an answer that came with a 2xx but is no answer; None if it is good."""
    if broken is not None:
        return unknown(broken, confirmed=confirmed)
    if not reading.complete:
        message = "The provider's answer is not whole or not readable. The work may have been done and billed."
        return UpstreamError(message, should_retry=False)
    if not (reading.images or reading.said or reading.unread or event_stream):
        found = f"an error ({reading.error})" if reading.error else "no image"
        message = f"The provider answered 200 with {found}. The work may have been done and billed."
        return UpstreamError(message, should_retry=False)
    return None


def out_of_sight(reading: Reading, broken: UpstreamFailure | None) -> GatewayError | None:
    """Return the error for an answer that broke off while its work goes on in the background; None if it is whole."""
    if broken is None and reading.complete:
        return None
    named = reading.said.id if reading.said else None
    message = f"The provider's answer broke off. Its work goes on and will be billed: ask for response {named!r}."
    return UpstreamError(message, should_retry=False)
