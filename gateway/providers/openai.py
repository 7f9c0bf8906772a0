"""OpenAI: the images endpoints of OpenAI, and of all who speak like it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

import httpx

from gateway import __version__
from gateway.domain.job import Operation
from gateway.domain.route import ProviderConfig
from gateway.domain.settlement import Outcome
from gateway.ports import Answer, Call, Rendered, UpstreamFailure
from gateway.providers.answer import open_answer, passed_headers, read_limited
from gateway.providers.outcome import of_status, of_transport
from gateway.providers.transport import Transport

MAX_ERROR_BODY: Final = 64 * 1024
_ERROR_BODY_SECONDS: Final = 10.0
_PATHS = {Operation.GENERATE: "/images/generations", Operation.EDIT: "/images/edits"}


class OpenAIProvider:
    """Implements `ports.Provider`: one POST per call, never repeated, never redirected, with no header of the client's.

    Raises ValueError if the base URL is no http(s) URL or the key cannot stand in a header.
    """

    def __init__(self, config: ProviderConfig, transport: httpx.AsyncBaseTransport | None = None) -> None:
        base = httpx.URL(config.base_url)
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(f"provider {config.name}: base_url must begin with https:// or http://")
        self._secret = None if config.api_key is None else config.api_key.reveal()
        if self._secret is not None and not (self._secret.isascii() and self._secret.isprintable()):
            raise ValueError(f"provider {config.name}: api_key has characters that cannot stand in a header")
        path = base.path.rstrip("/")
        self._urls = {operation: base.copy_with(path=path + suffix) for operation, suffix in _PATHS.items()}
        self._headers = [("Accept-Encoding", "identity"), ("User-Agent", f"image-gateway/{__version__}")]
        if self._secret is not None:
            self._headers.append(("Authorization", f"Bearer {self._secret}"))
        wait = config.timeout
        self._extensions = {"timeout": {"connect": config.connect_timeout, "read": wait, "write": wait, "pool": None}}
        self._error_seconds = min(wait, _ERROR_BODY_SECONDS)
        self._transport = Transport() if transport is None else transport

    async def send(self, call: Call) -> Answer:
        """Send the job; return once a 2xx status line is in, or raise UpstreamFailure."""
        request = self._request(call)
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise of_transport(error) from error
        answer: Answer | None = None
        try:
            if not response.is_success:
                raise await self._failure(response)
            answer = open_answer(response)
            return answer
        finally:
            if answer is None:
                await response.aclose()

    def _request(self, call: Call) -> httpx.Request:
        url = self._urls.get(call.job.operation)
        if url is None:
            raise UpstreamFailure(Outcome.NOT_SENT, "unsupported", f"no endpoint for {call.job.operation}")
        body = call.body.render({"model": call.route.upstream_model, **call.changes})
        headers = [
            *self._headers,
            ("Accept", "text/event-stream" if call.job.stream else "application/json"),
            ("Content-Type", body.content_type),
            ("Content-Length", str(body.length)),
            ("X-Client-Request-Id", call.request_id),
        ]
        return httpx.Request("POST", url, headers=headers, stream=_BodyStream(body), extensions=self._extensions)

    async def _failure(self, response: httpx.Response) -> UpstreamFailure:
        body = await read_limited(response, limit=MAX_ERROR_BODY, seconds=self._error_seconds)
        passed = [(name, value) for name, value in passed_headers(response) if name != "content-length"]
        return of_status(response.status_code, response.headers, body, passed=passed, secret=self._secret)

    async def aclose(self) -> None:
        """Close connections."""
        await self._transport.aclose()


class _BodyStream(httpx.AsyncByteStream):
    """A rendered body as httpx wants it; it may be read again if a connection was dead before a byte was sent."""

    def __init__(self, body: Rendered) -> None:
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.chunks()
