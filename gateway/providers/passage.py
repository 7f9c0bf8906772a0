"""Passage: requests that go to an account as they are, under its own secret, and their answers, both as they come."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

from gateway.domain.route import ProviderConfig
from gateway.domain.settlement import Outcome, Reading
from gateway.http1.message import Incoming
from gateway.ports import Headers, Rendered
from gateway.ports.provider import UpstreamFailure
from gateway.ports.responses import Passing
from gateway.providers.answer import MAX_BODY, MAX_WAIT, open_answer, read_body
from gateway.providers.endpoint import BodyStream, Endpoint
from gateway.providers.outcome import of_status, refusal
from gateway.providers.response_reading import ResponseDocument, ResponseEvents

_PASSED: Final = ("content-type", "content-length", "content-disposition", "retry-after", "retry-after-ms", "etag")
_PASSED_BEGIN: Final = ("openai-processing", "openai-version", "x-ratelimit-")


class Passages:
    """Implements `ports.responses.Passages` over the accounts that `configs` names at the moment."""

    def __init__(self, configs: Callable[[], Mapping[str, ProviderConfig]]) -> None:
        self._configs = configs
        self._open: dict[str, tuple[ProviderConfig, Endpoint]] = {}
        self._former: list[Endpoint] = []

    async def send(self, provider: str, passing: Passing, body: Rendered | None = None) -> PassedAnswer:
        """Return once a status line is in; UpstreamFailure if none came, or if there is no such account."""
        endpoint = self._endpoint(provider)
        headers = list(passing.headers)
        url = endpoint.raw_url(passing.path, passing.query)
        if body is not None:
            headers.append(("Content-Length", str(body.length)))
        headers.append(("X-Client-Request-Id", passing.request_id))
        stream = None if body is None else BodyStream(body)
        response = await endpoint.pass_on(passing.method, url, headers, stream)
        return PassedAnswer(response)

    async def look(self, provider: str, response_id: str) -> Reading:
        """Ask for a response and return what it says of itself; UpstreamFailure if it is not told."""
        endpoint = self._endpoint(provider)
        response = await endpoint.get(endpoint.raw_url(f"/responses/{response_id}", ""))
        try:
            if not response.is_success:
                body = await endpoint.error_body(response)
                raise of_status(response.status_code, response.headers, body, passed=(), secret=endpoint.secret)
            answer = open_answer(response, document=ResponseDocument, events=ResponseEvents)
            async for _ in answer.chunks():
                pass
            return answer.reading()
        finally:
            await response.aclose()

    def _endpoint(self, provider: str) -> Endpoint:
        config = self._configs().get(provider)
        if config is None:
            raise UpstreamFailure(Outcome.NOT_SENT, "unconfigured", f"provider {provider!r} is not set up")
        known = self._open.get(provider)
        if known is None or known[0] != config:
            if known is not None:
                self._former.append(known[1])
            known = self._open[provider] = (config, Endpoint(config))
        return known[1]

    async def aclose(self) -> None:
        """Close connections."""
        for endpoint in (*(endpoint for _, endpoint in self._open.values()), *self._former):
            await endpoint.aclose()


class PassedAnswer:
    """An answer on its way, whatever its status."""

    def __init__(self, response: Incoming) -> None:
        self._response = response

    @property
    def status(self) -> int:
        """The account's status code."""
        return self._response.status_code

    @property
    def refusal(self) -> str | None:
        """Why surely no work was done and nothing can be billed, by the status alone; None where that is not sure."""
        return refusal(self._response.status_code)

    @property
    def headers(self) -> Headers:
        """What may be passed to the client, names in lower case."""
        return [
            (name, value)
            for name, value in self._response.headers.multi_items()
            if name in _PASSED or name.startswith(_PASSED_BEGIN)
        ]

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; UpstreamFailure if it breaks off or does not end."""
        return read_body(self._response, limit=MAX_BODY, seconds=MAX_WAIT)

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._response.aclose()
