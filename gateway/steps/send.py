"""Send: the call, or the calls, to the provider behind a quote."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome
from gateway.ports import Answer, Body, Call, Links, Provider, UpstreamFailure


async def send(
    providers: Mapping[str, Provider], request_id: str, quote: Quote, body: Body, links: Links | None = None
) -> Answer:
    """Return the provider's answer once its status line is in; UpstreamFailure says what a failure may have cost.

    With `links`, images are kept there and the answer names their URLs.
    """
    provider = providers.get(quote.route.provider.name)
    if provider is None:
        raise UpstreamFailure(Outcome.NOT_SENT, "unconfigured", f"provider {quote.route.provider.name!r} is not set up")
    call = Call(request_id, quote.route, quote.job, body, quote.changes, quote.calls, quote.as_events, links)
    return await provider.send(call)
