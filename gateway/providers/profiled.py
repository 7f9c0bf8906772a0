"""Profiled: endpoints that speak nearly like the OpenAI images API; how they differ is a profile, which is data."""

from __future__ import annotations

from functools import partial

import httpx

from gateway.domain.route import ProviderConfig
from gateway.http1.message import Incoming
from gateway.ports import Rendered
from gateway.ports.provider import Answer, Call, ProviderServices, UpstreamFailure
from gateway.providers.answer import open_answer
from gateway.providers.endpoint import Endpoint, shown_headers
from gateway.providers.linked import without_links
from gateway.providers.normalised import Normaliser
from gateway.providers.outcome import of_status
from gateway.providers.profiled_body import path_of, profiled_body
from gateway.providers.reading import EventReader


class ProfiledProvider:
    """Implements `ports.Provider`: one POST per call, never repeated and never redirected.

    Raises ValueError if the base URL is no http(s) URL or the key cannot stand in a header.
    """

    def __init__(self, config: ProviderConfig, services: ProviderServices) -> None:
        self._profile = config.profile
        self._services = services
        self._endpoint = Endpoint(config, config.profile.auth)
        self._normaliser = Normaliser(config.profile, self._endpoint, services)

    async def send(self, call: Call) -> Answer:
        """Send the job; return once a 2xx status line is in, or the whole answer where it must be put into shape."""
        profile = self._profile
        url = self._endpoint.url(path_of(profile, call), profile.query, model=call.route.upstream_model)
        body = await profiled_body(profile, call, self._services)
        try:
            return await self._send(call, url, body)
        finally:
            await body.aclose()

    async def _send(self, call: Call, url: httpx.URL, body: Rendered) -> Answer:
        accept = "text/event-stream" if call.job.stream else "application/json"
        response = await self._endpoint.post(url, body, call.request_id, accept=accept)
        answer: Answer | None = None
        try:
            if not response.is_success:
                raise await self._failure(response)
            opened = open_answer(response, self._endpoint.mask, events=partial(EventReader, call.job.n))
            if self._profile.reads and not opened.event_stream:
                return await self._normaliser.normalised(opened, call, response.headers)
            answer = await without_links(opened, call, response.named, self._normaliser)
            return answer
        finally:
            if answer is None:
                await response.aclose()

    async def _failure(self, response: Incoming) -> UpstreamFailure:
        status, body = response.status_code, await self._endpoint.error_body(response)
        passed, secret = shown_headers(response), self._endpoint.secret
        failure = of_status(status, response.headers, body, passed=passed, secret=secret, foreign=True)
        if self._profile.reported is not None:
            failure.charged_for = None  # what it bills it says in its answers, and a status is none
        return failure

    async def aclose(self) -> None:
        """Close connections."""
        await self._endpoint.aclose()
