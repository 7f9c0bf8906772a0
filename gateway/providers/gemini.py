"""Gemini: `generateContent` of Google's Gemini API, and of all who speak like it; one image a call."""

from __future__ import annotations

from typing import Final

import httpx

from gateway.domain.job import Operation
from gateway.domain.profile import Auth
from gateway.domain.route import ProviderConfig
from gateway.http1.message import Incoming
from gateway.ports import Rendered
from gateway.ports.provider import Answer, Call, ProviderServices, UpstreamFailure
from gateway.providers.answer import open_answer
from gateway.providers.endpoint import Endpoint, shown_headers
from gateway.providers.gemini_answer import put_in_shape
from gateway.providers.gemini_body import gemini_body
from gateway.providers.gemini_errors import in_shape
from gateway.providers.outcome import of_garbage, of_status
from gateway.providers.unsupported import unsupported

KEY_HEADER: Final = Auth("x-goog-api-key", "")
"""Where the vendor takes the key; a profile's own `auth` goes before it."""

_PATH: Final = "/models/{model}:generateContent"
_MAKES: Final = frozenset({Operation.GENERATE, Operation.EDIT})


class GeminiProvider:
    """Implements `ports.Provider`: one POST per call, never repeated and never redirected.

    Raises ValueError if the base URL is no http(s) URL or the key cannot stand in a header.
    """

    def __init__(self, config: ProviderConfig, services: ProviderServices) -> None:
        own = config.profile.auth
        self._endpoint = Endpoint(config, KEY_HEADER if own == Auth() else own)
        self._services = services

    async def send(self, call: Call) -> Answer:
        """Send the job and return its answer once all of it is here; UpstreamFailure if it holds no image."""
        if call.job.operation not in _MAKES:
            raise unsupported(f"this route has no endpoint for {call.job.operation}")
        url = self._endpoint.url(_PATH, model=call.route.upstream_model)
        body = await gemini_body(call, self._services)
        try:
            return await self._send(call, url, body)
        finally:
            await body.aclose()

    async def _send(self, call: Call, url: httpx.URL, body: Rendered) -> Answer:
        response = await self._endpoint.post(url, body, call.request_id, accept="application/json")
        try:
            if not response.is_success:
                raise await self._failure(response)
            answer = open_answer(response, self._endpoint.mask)
            if answer.event_stream:
                raise of_garbage("the answer is a stream of events, which nobody asked for", response.status_code)
            return await put_in_shape(answer, call)
        finally:
            await response.aclose()

    async def _failure(self, response: Incoming) -> UpstreamFailure:
        came = await self._endpoint.error_body(response)
        status, headers, body = in_shape(response.status_code, response.headers, came)
        failure = of_status(status, headers, body, passed=shown_headers(response), secret=self._endpoint.secret)
        failure.charged_for = None  # what it bills are tokens, which only a 200 counts
        return failure

    async def aclose(self) -> None:
        """Close connections."""
        await self._endpoint.aclose()
