"""Whoever traces are sent to: a server on this machine that reads OTLP over HTTP, and keeps the spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


@dataclass(frozen=True)
class Received:
    """A span as it came."""

    span: Span
    resource: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return self.span.name

    @property
    def trace(self) -> str:
        """The id of its trace, in hexadecimal."""
        return self.span.trace_id.hex()

    @property
    def id(self) -> str:
        """Its own id, in hexadecimal."""
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        """The id of its parent, in hexadecimal; empty if it has none."""
        return self.span.parent_span_id.hex()

    @property
    def told(self) -> dict[str, Any]:
        """Its attributes."""
        return read(self.span.attributes)


@dataclass
class Collector:
    """Keeps spans, and the bytes that they came as."""

    port: int = 0
    spans: list[Received] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make a gateway send here, soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRICS_EXPORTER": "none",
        }

    def named(self, start: str) -> list[Received]:
        """The spans whose names begin so."""
        return [span for span in self.spans if span.name.startswith(start)]


def read(pairs: Any) -> dict[str, Any]:
    """Attributes as plain values."""

    def value(pair: KeyValue) -> Any:
        return getattr(pair.value, pair.value.WhichOneof("value") or "string_value")

    return {pair.key: value(pair) for pair in pairs}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Listen for spans."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
            collector.raw.append(body)
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = read(group.resource.attributes)
                for scope in group.scope_spans:
                    collector.spans += [Received(span, resource) for span in scope.spans]
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
