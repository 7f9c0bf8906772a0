"""Send: one call to the provider behind a quote."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome
from gateway.ports import Answer, Body, Call, Provider, UpstreamFailure


async def send(providers: Mapping[str, Provider], request_id: str, quote: Quote, body: Body) -> Answer:
    """Return the provider's answer once its status line is in; UpstreamFailure says what a failure may have cost."""
    provider = providers.get(quote.route.provider.name)
    if provider is None:
        raise UpstreamFailure(Outcome.NOT_SENT, "unconfigured", f"provider {quote.route.provider.name!r} is not set up")
    return await provider.send(Call(request_id, quote.route, quote.job, body, quote.changes))
