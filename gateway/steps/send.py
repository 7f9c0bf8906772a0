"""Send: the call, or the calls, to the provider behind a quote."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from gateway.domain.route import Quote
from gateway.domain.settlement import Outcome
from gateway.ports import Body
from gateway.ports.preparing import is_preparing
from gateway.ports.provider import Answer, Call, Provider, UpstreamFailure


def send(providers: Mapping[str, Provider], request_id: str, quote: Quote, body: Body) -> Coroutine[Any, Any, Answer]:
    """Return what is to be awaited for the answer to a job that is a quote and a body, no more: see `send_call`."""
    told = quote.changes, quote.calls, quote.as_events
    return send_call(providers, Call(request_id, quote.route, quote.job, body, *told, batch=quote.batch))


def send_call(providers: Mapping[str, Provider], call: Call) -> Coroutine[Any, Any, Answer]:
    """Return what is to be awaited for the provider's answer, its status line.

    It raises UpstreamFailure, which says what a failure may have cost.
    """
    provider = providers.get(call.route.provider.name)
    if provider is None:
        name = call.route.provider.name
        raise UpstreamFailure(Outcome.NOT_SENT, "unconfigured", f"provider {name!r} is not set up")
    return provider.send(call)


def prepare(providers: Mapping[str, Provider], call: Call) -> None:
    """Let the provider prepare a call before it may be sent, if it can; errors surface when it is sent."""
    provider = providers.get(call.route.provider.name)
    if is_preparing(provider):
        provider.prepare(call)
