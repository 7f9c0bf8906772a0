"""The server's HTTP/1.1 protocol, with the limits on a connection that uvicorn leaves open.

uvicorn over httptools takes header blocks of any size, any number of `Host` fields, trailers as if they were headers,
chunk extensions without end and requests in advance without number, and waits forever for a head to end or for
an answer to be read. Each is bounded here, and refused in the same shape as every other error. It also loses
the body of a request that offers an upgrade (Java's client offers HTTP/2 with each): the offer is taken out here, and
the request read again without it.
"""

from __future__ import annotations

import asyncio
import http
import secrets
import sys
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.domain.errors import GatewayError, InvalidRequest
from gateway.web.errors import HeadersTooLarge, RequestTimeout, UriTooLong, answer_for
from gateway.web.head_rules import check_head
from gateway.web.limits import HeadLimits

_FIELD_OVERHEAD = len(": \r\n")
_OFFERS = {b"upgrade", b"http2-settings"}
_FRAMING_PER_BYTE = 8
"""A body in chunks of one byte has five bytes of framing to each."""
_LARGE = 16 * 1024
"""Bytes of a body's piece that is worth to be passed on as it is."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, watched from the outside. `limits` is set by a subclass of it, see `guarded`."""

    limits = HeadLimits()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_received = 0
        self._head_parsed = 0
        self._body_received = 0
        self._body_parsed = 0
        self._refusal: GatewayError | None = None
        self._offering = False
        self._offer_end: int | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    @property
    def _serving(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # None before the first request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Start the clock for the first head."""
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        super().connection_lost(exc)
        self._stop_timer()
        self._stop_unread_timer()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head before and after it is parsed, and what of a body is only its framing."""
        if self._in_head:
            self._head_received += len(data)
        else:
            self._body_received += len(data)
        super().data_received(data)
        if self._offer_end is not None:
            self._read_without_offer(data[self._offer_end :])
        if self.transport.is_closing():
            return
        if self._in_head and self._head_received > self.limits.block:
            self._refusal = _headers_too_large(self.limits)
            self.send_400_response("")
        elif not self._in_head and self._body_received - _FRAMING_PER_BYTE * self._body_parsed > self.limits.framing:
            self._refusal = InvalidRequest("The body has too little in its chunks.", code="invalid_request")
            self.send_400_response("")
        self._watch_head()

    def on_message_begin(self) -> None:
        """Begin counting a head."""
        super().on_message_begin()
        self._head_parsed = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target; one that is too long is refused."""
        super().on_url(url)
        self._head_parsed += len(url)
        if len(self.url) > self.limits.url:
            raise self._refuse(UriTooLong(f"The URL is longer than the {self.limits.url} bytes that are accepted."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; too many, or too many bytes of them, are refused. Trailers count, and are thrown away."""
        if self._in_head:
            super().on_header(name, value)
        self._head_parsed += len(name) + len(value) + _FIELD_OVERHEAD
        if self._head_parsed > self.limits.block or len(self.headers) > self.limits.fields:
            raise self._refuse(_headers_too_large(self.limits))

    def on_headers_complete(self) -> None:
        """Start the request, if its head is one that nobody takes for another."""
        try:
            check_head(self.parser.get_http_version(), self.parser.get_method(), self.url, self.headers)
        except InvalidRequest as refusal:
            raise self._refuse(refusal) from None
        if len(self.pipeline) >= self.limits.ahead:
            raise self._refuse(InvalidRequest("Too many requests before their answers.", code="invalid_request"))
        if self.parser.should_upgrade():
            self._offering = True
            return
        super().on_headers_complete()
        self.scope["state"]["transport"] = self.transport
        self._in_head = False
        self._body_received = self._body_parsed = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; a large one uncopied."""
        self._body_parsed += len(body)
        cycle = self.cycle
        if len(body) >= _LARGE and not (cycle.body or cycle.response_complete):
            cycle.body, body = body, b""  # type: ignore[assignment]  # of which uvicorn makes bytes anyway
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)  # which grows without being copied each time
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect the next head; the parser reports an offered upgrade as a message without a body."""
        if self._offering:
            return
        super().on_message_complete()
        self._in_head, self._head_received = True, 0

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Answer what was refused, in the one shape, and close.

        The body of the request that is being served may be what is refused; it is answered in place of the
        application, which is told that its client is gone. A refused second request just ends the connection.
        """
        if self._serving:
            if self.pipeline or self.cycle.response_started or not self.cycle.more_body:
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        error = self._refusal or InvalidRequest("This is not a valid HTTP/1.1 request.", code="invalid_request")
        answer = answer_for(error, f"req_{secrets.token_hex(16)}")
        phrase = http.HTTPStatus(answer.status).phrase
        head = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in answer.headers)]
        self.transport.write("\r\n".join([*head, "connection: close", "\r\n"]).encode("latin-1") + answer.body)
        self.transport.close()
        self._watch_unread()

    def on_response_complete(self) -> None:
        """Wait no longer than for any other answer until the last one before the end is read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._watch_unread()

    def pause_writing(self) -> None:
        """Start the clock for a client that is behind with reading."""
        super().pause_writing()
        self._watch_unread()

    def resume_writing(self) -> None:
        """Stop the clock: the client has caught up."""
        super().resume_writing()
        self._stop_unread_timer()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one whose client still has not read the last answer is dropped."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        super().timeout_keep_alive_handler()

    def _unsupported_upgrade_warning(self) -> None:
        """Note where the head ended; uvicorn calls this while it handles the exception that tells it."""
        error = sys.exc_info()[1]
        self._offer_end = error.args[0] if error else None

    def _read_without_offer(self, rest: bytes) -> None:
        """Read the same request again as one that offers nothing; HTTP/1.1 is the answer (RFC 9110, 7.8)."""
        head = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        for name, value in self.headers:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() not in _OFFERS]
                head.append(b"connection: " + b",".join(kept))
            elif name not in _OFFERS:
                head.append(b"%s: %s" % (name, value))
        self._offering, self._offer_end = False, None
        self.parser = type(self.parser)(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        super().data_received(b"\r\n".join([*head, b"\r\n"]) + rest)

    def _refuse(self, error: GatewayError) -> GatewayError:
        self._refusal = error
        return error

    def _watch_head(self) -> None:
        """Keep the clock running exactly while nothing is being served."""
        if self._serving:
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.seconds, self._head_timed_out)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _watch_unread(self) -> None:
        """Drop the connection in a while, if there is anything left to be read by then."""
        if self._unread_timer is None and self.transport.get_write_buffer_size():
            self._unread_timer = self.loop.call_later(self.limits.unread_seconds, self.transport.abort)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if self.transport.is_closing() or self._serving:
            return
        if self._in_head and self._head_received:
            self._refusal = RequestTimeout(f"The request's headers took longer than {self.limits.seconds:g} s.")
            self.send_400_response("")
        else:
            self.transport.close()


def _headers_too_large(limits: HeadLimits) -> HeadersTooLarge:
    return HeadersTooLarge(f"At most {limits.fields} header fields of {limits.block} bytes in all are accepted.")


def guarded(limits: HeadLimits) -> type[GuardedProtocol]:
    """Return the protocol with other limits."""
    return type("GuardedProtocol", (GuardedProtocol,), {"limits": limits})
