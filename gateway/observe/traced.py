"""Traced: calls that leave the process, each with a client span around it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from typing import Final

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from gateway.domain.route import Route
from gateway.domain.settlement import Reading
from gateway.ports import Headers
from gateway.ports.egress import Fetched, Fetcher, Posted, Unfetchable
from gateway.ports.preparing import is_preparing
from gateway.ports.provider import Answer, Call, Cancellable, Provider, Submitted, UpstreamFailure
from gateway.ports.tracing import TRACE_HEADERS
from gateway.ports.wrapped import IN_ANSWER, WrappedAnswer

OPERATION: Final = "generate_content"
"""What the GenAI conventions call an operation that makes content of any kind."""


class TracedProvider:
    """Implements `ports.Provider` by another one. `headers_of` returns what names a span to the provider."""

    def __init__(self, provider: Provider, tracer: Tracer, headers_of: Callable[[Span], Headers]) -> None:
        self._provider = provider
        self._tracer = tracer
        self._headers_of = headers_of
        if is_preparing(provider):
            self.prepare = provider.prepare  # its span begins when it is sent

    async def send(self, call: Call) -> Answer:
        """Send the job; its span ends with the answer."""
        name = f"{OPERATION} {call.route.upstream_model}"
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=_asked(call))
        current = context.attach(trace.set_span_in_context(span))
        told = TRACE_HEADERS.set(self._headers_of(span))
        try:
            answer = await self._provider.send(call)
        except BaseException as error:
            _fail(span, error)
            span.end()
            raise
        finally:
            TRACE_HEADERS.reset(told)
            context.detach(current)
        return TracedAnswer(answer, span)

    async def cancel(self, route: Route, submitted: Submitted) -> bool:
        """Ask for work to be given up, where the provider can be asked."""
        return isinstance(self._provider, Cancellable) and await self._provider.cancel(route, submitted)

    async def aclose(self) -> None:
        """Close connections."""
        await self._provider.aclose()


class TracedAnswer(WrappedAnswer):
    """Implements `ports.Answer` by another one; its span ends once it is read, or closed."""

    def __init__(self, answer: Answer, span: Span) -> None:
        super().__init__(answer)
        self._span = span

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        try:
            async for chunk in self._answer.chunks():
                yield chunk
        except UpstreamFailure as failure:
            _fail(self._span, failure)
            raise

    async def aclose(self) -> None:
        """Give the connection back, and end the span with what was read of the answer."""
        if self._span.is_recording():
            reading = self._answer.reading()
            self._span.set_attributes(_told(self._answer, reading))
            if reading.error and not reading.images:
                self._span.set_status(Status(StatusCode.ERROR))
            self._span.end()
        await super().aclose()


class TracedCallbacks:
    """Implements `ports.Fetcher` by another one. Where a callback goes is the client's business, and not told."""

    def __init__(self, fetcher: Fetcher, tracer: Tracer) -> None:
        self._fetcher = fetcher
        self._tracer = tracer

    async def get(
        self,
        url: str,
        *,
        seconds: float,
        limit: int,
        trusted: Collection[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Fetch a URL, without a span."""
        return await self._fetcher.get(url, seconds=seconds, limit=limit, trusted=trusted, headers=headers)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, seconds: float, trusted: Collection[str] = ()
    ) -> Posted:
        """Post to a URL."""
        root = context.Context()  # whoever looks for what is due does so for all, in no request's context
        span = self._tracer.start_span("call back", context=root, kind=SpanKind.CLIENT)
        span.set_attribute("http.request.method", "POST")
        if (message := headers.get("webhook-id")) is not None:
            span.set_attribute("image_gateway.callback_id", message)
        try:
            answer = await self._fetcher.post(url, body, headers, seconds=seconds, trusted=trusted)
            span.set_attribute("http.response.status_code", answer.status)
            if answer.status // 100 != 2:  # noqa: PLR2004 - any 2xx
                span.set_attribute("error.type", str(answer.status))
                span.set_status(Status(StatusCode.ERROR))
            return answer
        except BaseException as error:
            _fail(span, error)
            raise
        finally:
            span.end()


def _asked(call: Call) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {
        "gen_ai.operation.name": OPERATION,
        "gen_ai.provider.name": call.route.provider.kind,
        "gen_ai.request.model": call.route.upstream_model,
        "gen_ai.output.type": "image",
        "image_gateway.operation": str(call.job.operation),
        "image_gateway.provider": call.route.provider.name,
        "image_gateway.route": call.route.name,
        "image_gateway.calls": call.calls,
    }
    if call.job.n != 1:
        told["gen_ai.request.choice.count"] = call.job.n
    return told


def _told(answer: Answer, reading: Reading) -> dict[str, AttributeValue]:
    told: dict[str, AttributeValue] = {
        "http.response.status_code": answer.status,
        "image_gateway.images": reading.images,
    }
    if (usage := reading.usage) is not None:
        cached = usage.text_in_cached + usage.image_in_cached
        told["gen_ai.usage.input_tokens"] = usage.text_in + usage.image_in + cached
        told["gen_ai.usage.cache_read.input_tokens"] = cached
        told["gen_ai.usage.output_tokens"] = usage.text_out + usage.image_out
    if reading.error:
        told["error.type"] = IN_ANSWER
    return told


def _fail(span: Span, error: BaseException) -> None:
    """Say how a call failed, in a bounded word: messages may quote what was sent."""
    reason = error.reason if isinstance(error, UpstreamFailure | Unfetchable) else type(error).__name__
    span.set_attribute("error.type", reason)
    if isinstance(error, UpstreamFailure) and error.status is not None:
        span.set_attribute("http.response.status_code", error.status)
    span.set_status(Status(StatusCode.ERROR))
