"""Passthrough: requests that go to an account as they are, under its own secret, and their answers as they come."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

from gateway.domain.route import ProviderConfig
from gateway.domain.settlement import Outcome, Reading
from gateway.http1.message import Incoming
from gateway.ports import Headers, Rendered
from gateway.ports.provider import UpstreamFailure
from gateway.ports.responses import PassthroughRequest
from gateway.providers.answer import MAX_WAIT, id_of, open_answer, read_body
from gateway.providers.endpoint import BodyStream, Endpoint
from gateway.providers.outcome import of_status, refusal
from gateway.providers.response_reading import ResponseDocument, ResponseEvents

_OF_THE_BODY: Final = (
    *("content-type", "content-length", "content-disposition", "content-encoding", "content-language", "content-range"),
    *("etag", "last-modified"),
)
_PASSED: Final = (*_OF_THE_BODY, "accept-ranges", "retry-after", "retry-after-ms")
_PASSED_BEGIN: Final = ("openai-processing", "openai-version", "x-ratelimit-")
_OF_THE_ACCOUNT: Final = frozenset({401, 402, 403, 407})
"""What a client would take for a word about its own key or budget."""


class AccountPassthrough:
    """Implements `ports.responses.PassthroughAccounts` over the accounts of all policies so far, each as last named.

    What an account has made does not end with the name that policy had for it.
    """

    def __init__(self, configs: Mapping[str, ProviderConfig]) -> None:
        self._known = dict(configs)
        self._open: dict[str, tuple[ProviderConfig, Endpoint]] = {}
        self._former: list[Endpoint] = []

    def adopt(self, configs: Mapping[str, ProviderConfig]) -> None:
        """Take over the accounts of another policy, by name; those that it does not name are asked as before."""
        self._known |= configs

    async def send(self, provider: str, passing: PassthroughRequest, body: Rendered | None = None) -> PassedAnswer:
        """Return once a status line is in, of an error once it is read.

        UpstreamFailure if none came, if there is no such account, or if it refuses the gateway.
        """
        endpoint = self._endpoint(provider)
        headers = list(passing.headers)
        url = endpoint.raw_url(passing.path, passing.query)
        if body is not None:
            headers.append(("Content-Length", str(body.length)))
        headers.append(("X-Client-Request-Id", passing.request_id))
        stream = None if body is None else BodyStream(body)
        response = await endpoint.pass_on(passing.method, url, headers, stream)
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return PassedAnswer(endpoint.mask.over(response))
        try:
            failure = await _failure(endpoint, response)
        finally:
            await response.aclose()
        if failure.status in _OF_THE_ACCOUNT:
            raise failure
        return PassedAnswer(response, failure)

    async def look(self, provider: str, response_id: str) -> Reading:
        """Ask for a response and return what it says of itself; UpstreamFailure if it is not told."""
        endpoint = self._endpoint(provider)
        response = await endpoint.get(endpoint.raw_url(f"/responses/{response_id}", ""))
        try:
            if not response.is_success:
                raise await _failure(endpoint, response)
            answer = open_answer(response, endpoint.mask, document=ResponseDocument, events=ResponseEvents)
            async for _ in answer.chunks():
                pass
            return answer.reading()
        finally:
            await response.aclose()

    def _endpoint(self, provider: str) -> Endpoint:
        config = self._known.get(provider)
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


async def _failure(endpoint: Endpoint, response: Incoming) -> UpstreamFailure:
    body = await endpoint.error_body(response)
    return of_status(response.status_code, response.headers, body, secret=endpoint.secret)


class PassedAnswer:
    """An answer on its way, whatever its status, without the account's secret; of an error what its `failure` says."""

    def __init__(self, response: Incoming, failure: UpstreamFailure | None = None) -> None:
        self._response = response
        self._failure = failure

    @property
    def status(self) -> int:
        """The account's status code; 400 for a content filter's refusal, whatever code that has there."""
        return (self._failure and self._failure.status) or self._response.status_code

    @property
    def refusal(self) -> str | None:
        """Why surely no work was done and nothing can be billed, by the status alone; None where that is not sure."""
        return refusal(self._response.status_code)

    @property
    def headers(self) -> Headers:
        """What may be passed to the client, names in lower case."""
        passed = [
            (name, value)
            for name, value in self._response.headers.multi_items()
            if name in _PASSED or name.startswith(_PASSED_BEGIN)
        ]
        if self._failure is None:
            return passed
        return [*self._failure.headers, *(header for header in passed if header[0] not in _OF_THE_BODY)]

    @property
    def upstream_request_id(self) -> str | None:
        """The account's own id of the request, if it is a plain word."""
        return id_of(self._response)

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes, however long, for nothing of it is kept; UpstreamFailure if it breaks off."""
        if self._failure is not None:
            return _once(self._failure.body)
        return read_body(self._response, limit=sys.maxsize, seconds=MAX_WAIT)

    async def aclose(self) -> None:
        """Give the connection back."""
        await self._response.aclose()


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body
