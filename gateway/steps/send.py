"""Send: the call, or the calls, to the provider behind a quote."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome
from gateway.ports import Body
from gateway.ports.provider import (
    Answer,
    Archive,
    Call,
    Converter,
    Links,
    Provider,
    Repeats,
    Submissions,
    UpstreamFailure,
)


def send(
    providers: Mapping[str, Provider],
    request_id: str,
    quote: Quote,
    body: Body,
    links: Links | None = None,
    *,
    uploads: Links | None = None,
    submissions: Submissions | None = None,
    archive: Archive | None = None,
    converter: Converter | None = None,
    repeats: Repeats | None = None,
) -> Coroutine[Any, Any, Answer]:
    """Return what is to be awaited for the provider's answer, its status line.

    It raises UpstreamFailure, which says what a failure may have cost. With `links`, images are kept there and the
    answer names their URLs; the others are as in `Call`.
    """
    provider = providers.get(quote.route.provider.name)
    if provider is None:
        raise UpstreamFailure(Outcome.NOT_SENT, "unconfigured", f"provider {quote.route.provider.name!r} is not set up")
    call = Call(
        request_id,
        quote.route,
        quote.job,
        body,
        quote.changes,
        quote.calls,
        quote.as_events,
        links,
        uploads=uploads,
        submissions=submissions,
        archive=archive,
        converter=converter,
        batch=quote.batch,
        repeats=repeats,
    )
    return provider.send(call)
