"""Spans: requests, decisions, calls to the store and to providers, as OpenTelemetry has them.

Attributes `gen_ai.*` follow the GenAI semantic conventions (https://opentelemetry.io/docs/specs/semconv/gen-ai/), read
2026-11; `image_gateway.*` are our own. No prompt, no key, no URL and no host is ever among them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Mapping
from typing import Final

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from gateway import __version__
from gateway.domain.errors import GatewayError
from gateway.domain.route import Views
from gateway.observe.event import (
    Degraded,
    Event,
    FellBack,
    HoldEnded,
    LedgerCalled,
    LedgerFailed,
    Replaced,
    RequestDenied,
    RequestFinished,
    RequestStarted,
    TaskRested,
    UpstreamFailed,
)
from gateway.observe.traced import TracedCallbacks, TracedProvider
from gateway.observe.tracing import TracingUnavailable
from gateway.ports.egress import Fetcher
from gateway.ports.provider import Provider
from gateway.ports.tracing import TRACE_HEADERS

SERVICE: Final = "image-gateway"
_NANO: Final = 1_000_000_000
_FAULT: Final = 400
"""From here on an answer is an error, and its code a word of the gateway's own."""
_SERVER_FAULT: Final = 500
_TRACE_CONTEXT: Final = TraceContextTextMapPropagator()
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")


def exported() -> Spans:
    """Return spans that are sent to an OTLP receiver over HTTP; TracingUnavailable if something else is configured."""
    protocol = next((value for name in _PROTOCOLS if (value := os.environ.get(name))), "http/protobuf")
    if protocol != "http/protobuf":
        raise TracingUnavailable(f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}; only http/protobuf is spoken here")
    try:
        return Spans(OTLPSpanExporter())
    except ValueError as error:
        raise TracingUnavailable(f"an OTEL_* variable cannot be used: {error}") from error


class Spans:
    """Implements `tracing.Tracing`. What is sampled `OTEL_TRACES_SAMPLER` says: the parent, unless it says otherwise.

    A request's span is the current one of the asyncio task that it began in, and of those that it starts.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._sdk = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        self._sdk.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._sdk.get_tracer("gateway", __version__)

    def emit(self, event: Event) -> None:
        """Take note of one event."""
        if isinstance(event, RequestStarted):
            self._begin(event)
            return
        span = trace.get_current_span()
        if not span.is_recording():
            return  # background work, or a request that is not sampled
        if isinstance(event, LedgerCalled | LedgerFailed):
            self._ledger_called(event)
        else:
            _note(span, event)

    def _begin(self, event: RequestStarted) -> None:
        headers = event.facts.headers if event.facts is not None else {}
        known = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
        before = _TRACE_CONTEXT.extract(known, context=context.Context())
        if event.task:
            # A consumer of a queue: its own trace, which may begin a day later, linked to that of the request.
            creator = trace.get_current_span(before).get_span_context()
            links = [Link(creator)] if creator.is_valid else []
            name, kind, before = f"task {event.operation}", SpanKind.CONSUMER, context.Context()
        else:
            links, name, kind = [], f"request {event.operation}", SpanKind.SERVER
        span = self._tracer.start_span(name, context=before, kind=kind, links=links)
        span.set_attribute("image_gateway.operation", event.operation)
        # Never detached: it ends with the asyncio task, which serves this one request.
        context.attach(trace.set_span_in_context(span))
        TRACE_HEADERS.set(headers_of(span))

    def _ledger_called(self, event: LedgerCalled | LedgerFailed) -> None:
        ended = time.time_ns()
        began = ended - int(event.seconds * _NANO)
        span = self._tracer.start_span(f"ledger {event.operation}", kind=SpanKind.CLIENT, start_time=began)
        if isinstance(event, LedgerFailed):
            span.set_status(Status(StatusCode.ERROR))
        span.end(ended)

    @contextlib.contextmanager
    def choosing(self) -> Iterator[_Choice]:
        """Stand around one decision."""
        around = self._tracer.start_as_current_span(
            "choose route", record_exception=False, set_status_on_exception=False
        )
        with around as span:
            try:
                yield _Choice(span)
            except GatewayError as error:
                span.set_attribute("error.type", error.code)
                raise

    def provider(self, provider: Provider) -> Provider:
        """Return a provider of whose calls each has a span."""
        return TracedProvider(provider, self._tracer, headers_of)

    def callbacks(self, fetcher: Fetcher) -> Fetcher:
        """Return a fetcher of whose posts each has a span."""
        return TracedCallbacks(fetcher, self._tracer)

    def label(self, handler: logging.Handler) -> None:
        """Let a handler's lines name the trace and the span in which they were written."""
        handler.addFilter(_labelled)

    def close(self) -> None:
        """Send what is left, and end."""
        self._sdk.shutdown()


class _Choice:
    def __init__(self, span: Span) -> None:
        self._span = span

    def made(self, first: str, candidates: int, passed_over: int) -> None:
        """Note what was chosen from."""
        told: Mapping[str, AttributeValue] = {
            "image_gateway.route": first,
            "image_gateway.candidates": candidates,
            "image_gateway.passed_over": passed_over,
        }
        self._span.set_attributes(told)


def headers_of(span: Span) -> list[tuple[str, str]]:
    """Return the headers that name a span to others: `traceparent`, and `tracestate` if there is one."""
    carrier: dict[str, str] = {}
    _TRACE_CONTEXT.inject(carrier, context=trace.set_span_in_context(span, context.Context()))
    return list(carrier.items())


def _note(span: Span, event: Event) -> None:
    match event:
        case RequestFinished():
            _finish(span, event)
        case TaskRested():
            _finish(span, event.ended)
        case HoldEnded():
            span.add_event("hold ended", _hold(event))
        case UpstreamFailed():
            _add(span, "upstream failed", route=event.route, reason=event.reason)
        case FellBack():
            _add(span, "fell back", from_route=event.from_route, to_route=event.to_route, reason=event.reason)
        case Degraded():
            span.set_attribute("image_gateway.degraded", True)
            _add(span, "degraded", change=event.change)
        case Replaced():
            _add(span, "model replaced", model=event.model, replacement=event.replacement)
        case RequestDenied():
            _add(span, "denied", reason=event.reason)
        case _:
            pass


def _finish(span: Span, event: RequestFinished) -> None:
    told: dict[str, AttributeValue] = {
        "image_gateway.request_id": event.request_id,
        "http.response.status_code": event.status,
        "image_gateway.project": event.project,
        "image_gateway.job_type": event.job_type,
        "image_gateway.route": event.route,
        "image_gateway.attempts": event.attempts,
        "image_gateway.images": event.images,
        "image_gateway.overhead_ms": round(event.overhead * 1000, 3),
        "image_gateway.outcome": _outcome(event),
    }
    if event.estimate is not None:
        told["image_gateway.estimate_usd"] = event.estimate / _NANO
    if event.cost is not None:
        told["image_gateway.cost_usd"] = event.cost / _NANO
    if event.source:
        told["image_gateway.cost_source"] = str(event.source)
    if event.code:
        told["error.type"] = event.error_type or event.code
    span.set_attributes(told)
    if event.status >= _SERVER_FAULT:
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def _outcome(event: RequestFinished) -> str:
    if event.client_gone:
        return "client_gone"
    if event.code or event.status >= _FAULT:
        return "error"
    return "replayed" if event.replayed else "ok"


def _hold(event: HoldEnded) -> dict[str, AttributeValue]:
    return {
        "image_gateway.route": event.route,
        "image_gateway.held_usd": _usd(event.estimate),
        "image_gateway.cost_usd": _usd(event.cost),
        "image_gateway.cost_source": str(event.source),
        "image_gateway.images": event.images,
    }


def _usd(views: Views) -> float:
    return views.route / _NANO


def _add(span: Span, name: str, **told: str) -> None:
    span.add_event(name, {f"image_gateway.{key}": value for key, value in told.items()})


def _labelled(record: logging.LogRecord) -> bool:
    """Put the ids of the current span among a record's fields; lets every record pass."""
    now = trace.get_current_span().get_span_context()
    if now.is_valid:
        fields = getattr(record, "fields", None) or {}
        record.fields = {**fields, "trace_id": f"{now.trace_id:032x}", "span_id": f"{now.span_id:016x}"}
    return True


def _resource() -> Resource:
    own: dict[str, AttributeValue] = {"service.version": __version__}
    named = "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not os.environ.get("OTEL_SERVICE_NAME") and not named:
        own["service.name"] = SERVICE
    return Resource.create(own)
