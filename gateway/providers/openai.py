"""OpenAI: the images and responses endpoints of OpenAI, and of all who speak exactly like it."""

from __future__ import annotations

from functools import partial
from typing import Final

import httpx

from gateway.domain.job import RESPOND, Operation
from gateway.domain.route import ProviderConfig
from gateway.domain.settlement import Outcome
from gateway.http1.message import Incoming, Outgoing
from gateway.ports.provider import Answer, Call, ProviderServices, UpstreamFailure
from gateway.providers.answer import open_answer
from gateway.providers.endpoint import Endpoint, shown_headers
from gateway.providers.linked import without_links
from gateway.providers.normalised import Normaliser
from gateway.providers.outcome import of_status, of_transport
from gateway.providers.reading import EventReader
from gateway.providers.response_reading import ResponseDocument, ResponseEvents

_PATHS: Final = {
    Operation.GENERATE: "/images/generations",
    Operation.EDIT: "/images/edits",
    Operation.RESPOND: "/responses",
}


class OpenAIProvider:
    """Implements `ports.Provider`: one POST per call, never repeated, never redirected, with no header of the client's.

    Raises ValueError if the base URL is no http(s) URL or the key cannot stand in a header.
    """

    def __init__(self, config: ProviderConfig, services: ProviderServices) -> None:
        self._endpoint = Endpoint(config)
        self._normaliser = Normaliser(config.profile, self._endpoint, services)
        self._urls = {operation: self._endpoint.target(self._endpoint.url(path)) for operation, path in _PATHS.items()}

    def prepare(self, call: Call) -> None:
        """Write the request that `send` is to send, of a body that is short; what is wrong with it is told there."""
        if self._endpoint.traced:
            return  # its head names the span that is under way when it is sent
        try:
            object.__setattr__(call, "prepared", self._request(call))
        except (UpstreamFailure, ValueError):
            return

    async def send(self, call: Call) -> Answer:
        """Send the job; return once a 2xx status line and an answer's beginning are in, or raise UpstreamFailure."""
        ready = call.prepared
        request = ready if isinstance(ready, Outgoing) else self._request(call)
        try:
            response = await self._endpoint.transport.send(request)
        except httpx.TransportError as error:
            raise of_transport(error) from error
        answer: Answer | None = None
        try:
            if not response.is_success:
                raise await self._failure(response)
            if call.job.operation is RESPOND:
                answer = open_answer(response, self._endpoint.mask, document=ResponseDocument, events=ResponseEvents)
            else:
                opened = open_answer(response, self._endpoint.mask, events=partial(EventReader, call.job.n))
                answer = await without_links(opened, call, response.named, self._normaliser)
            return answer
        finally:
            if answer is None:
                await response.aclose()

    def _request(self, call: Call) -> Outgoing:
        url = self._urls.get(call.job.operation)
        if url is None:
            raise UpstreamFailure(Outcome.NOT_SENT, "unsupported", f"no endpoint for {call.job.operation}")
        body = call.body.render({"model": call.route.upstream_model, **call.changes})
        accept = "text/event-stream" if call.job.stream else "application/json"
        return self._endpoint.posting(url, body, call.request_id, accept=accept)

    async def _failure(self, response: Incoming) -> UpstreamFailure:
        body = await self._endpoint.error_body(response)
        passed, secret = shown_headers(response), self._endpoint.secret
        return of_status(response.status_code, response.headers, body, passed=passed, secret=secret)

    async def aclose(self) -> None:
        """Close connections."""
        await self._endpoint.aclose()
