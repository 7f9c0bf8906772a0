"""Watched: providers whose calls tell `Health` how they ended, whoever makes them and however they are read."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping

from gateway.domain.route import Route
from gateway.domain.settlement import Outcome, Reading
from gateway.ports import Headers
from gateway.ports.provider import Answer, Call, Cancellable, Provider, Submitted, UpstreamFailure
from gateway.routing.health import Health, Trial


class WatchedProvider:
    """Implements `ports.Provider` by another one. `clock` is monotonic seconds."""

    def __init__(self, provider: Provider, health: Health, clock: Callable[[], float] = time.monotonic) -> None:
        self._provider = provider
        self._health = health
        self._clock = clock

    async def send(self, call: Call) -> Answer:
        """Send the job, and watch how it ends."""
        trial, began = self._health.begin(call.route, call.job), self._clock()
        try:
            answer = await self._provider.send(call)
        except UpstreamFailure as failure:
            self._health.failed(trial, failure)
            raise
        except BaseException:
            self._health.dropped(trial)
            raise
        return WatchedAnswer(answer, self._health, trial, self._clock() - began, self._clock)

    async def cancel(self, route: Route, submitted: Submitted) -> bool:
        """Ask for work to be given up, where the provider can be asked."""
        return isinstance(self._provider, Cancellable) and await self._provider.cancel(route, submitted)

    async def aclose(self) -> None:
        """Close connections."""
        await self._provider.aclose()


class WatchedAnswer:
    """Implements `ports.Answer` by another one. `seconds` is how long its head took."""

    def __init__(
        self, answer: Answer, health: Health, trial: Trial, seconds: float, clock: Callable[[], float]
    ) -> None:
        self._answer = answer
        self._health = health
        self._trial = trial
        self._seconds = seconds
        self._clock = clock

    @property
    def status(self) -> int:
        """The provider's status code."""
        return self._answer.status

    @property
    def headers(self) -> Headers:
        """What may be passed to the client."""
        return self._answer.headers

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes, if the provider named it."""
        return self._answer.content_length

    @property
    def event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self._answer.event_stream

    @property
    def upstream_request_id(self) -> str | None:
        """The provider's own id of the request."""
        return self._answer.upstream_request_id

    @property
    def rate_limits(self) -> Mapping[str, str]:
        """What the provider said of the account's limits."""
        return self._answer.rate_limits

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes; the time that the reader takes does not count."""
        chunks = self._answer.chunks()
        while (chunk := await self._next(chunks)) is not None:
            yield chunk
        self._judge()

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        began = self._clock()
        try:
            return await anext(chunks, None)
        except UpstreamFailure as failure:
            self._health.failed(self._trial, failure)
            raise
        finally:
            self._seconds += self._clock() - began

    def _judge(self) -> None:
        """Tell how a body went that came to its end."""
        reading = self.reading()
        if not reading.complete or not (reading.images or reading.said or self.event_stream):
            garbage = UpstreamFailure(Outcome.UNKNOWN, "garbage", "the answer is no answer")
            self._health.failed(self._trial, garbage)
        elif reading.error:
            self._health.dropped(self._trial)  # an error inside a stream may be the caller's own fault
        else:
            self._health.succeeded(self._trial, self._seconds)

    def reading(self) -> Reading:
        """Return what was picked out so far."""
        return self._answer.reading()

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body was not read to its end."""
        self._health.dropped(self._trial)
        await self._answer.aclose()
