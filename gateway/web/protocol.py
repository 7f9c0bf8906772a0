"""The server's HTTP/1.1 protocol: what comes on a connection becomes requests, within limits.

The parser takes header blocks of any size, any number of `Host` fields, trailers as if they were headers, chunk
extensions without end and requests in advance without number, and nobody has to end a head or to read an answer. Each
is bounded here, and refused in the same shape as every other error. The parser also loses the body of a request that
offers an upgrade (Java's client offers HTTP/2 with each): the offer is taken out here, and the request read again
without it. A head that is the same as the one before on its connection is not parsed again.
"""

from __future__ import annotations

import asyncio
import http
import secrets
from collections import deque
from typing import Any

import httptools

from gateway.domain.errors import GatewayError, InvalidRequest
from gateway.web.channel import Channel, Preambles
from gateway.web.clocks import Clocks
from gateway.web.context import RequestContext
from gateway.web.errors import HeadersTooLarge, RequestTimeout, UriTooLong, answer_for
from gateway.web.head import Again, Head, read_head
from gateway.web.head_rules import check_head
from gateway.web.limits import HeadLimits
from gateway.web.open_files import OpenFiles

_FIELD_OVERHEAD = len(": \r\n")
_OFFERS = {b"upgrade", b"http2-settings"}
_FRAMING_PER_BYTE = 8
"""A body in chunks of one byte has five bytes of framing to each."""
_TRIES = 4
"""Heads in a row that were none the last one foretold, after which a connection's are remembered no more."""


class GuardedProtocol(Channel):
    """One connection. `limits` is set by a subclass of it, see `guarded`."""

    limits = HeadLimits()
    _clocks: Clocks

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parser: Any = self._new_parser()
        self._turns: deque[RequestContext] = deque()
        """Those that are not answered yet: the first is being served, the others wait for it."""
        self._newest: RequestContext | None = None
        """Whose body is read, or was read last."""
        self._again: Again | None = None
        self._tries = _TRIES
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._in_head = True
        self._begun = False  # whether some of a message has come, and not its end; blank lines are none of it
        self._head_received = 0
        self._head_parsed = 0
        self._body_received = 0
        self._body_parsed = 0
        self._refusal: GatewayError | None = None
        self._offering = False
        self._over = False
        """Whether what follows the last request is none: it is dropped, and the connection ends with its answer."""

    def _new_parser(self) -> object:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # or the last answer before the end is lost
        return parser

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # what servers are given
        """Start the clock for the first head."""
        super().connection_made(transport)
        self.state.connections.add(self)  # type: ignore[arg-type]  # it names its own protocols alone
        self._clocks = Clocks(self.loop, transport, self.limits, self._head_timed_out)
        self._clocks.watch_head()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell those who work for this client, and let go of everything."""
        self.state.connections.discard(self)
        self._clocks.stop()
        for turn in self._turns:
            turn.lose()
        self.resume_writing()
        self._turns.clear()
        self._newest = self._parser = self._again = None

    def shutdown(self) -> None:
        """End the connection as soon as what was asked on it is answered."""
        if self._turns:
            self._turns[-1].keep_alive = False
        else:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Take what came: a request as the one before, or something for the parser."""
        if self._over:
            return
        self._clocks.idle_since = None
        if self._begun or self._turns:
            self._parse(data)
        elif self._again is None or (found := self._again.match(data)) is None:
            before = self._newest
            self._parse(data)
            self._remember(data, before)
        else:
            self._tries = _TRIES
            self._clocks.stop_head()
            self._begin(*found)

    def _remember(self, data: bytes, before: RequestContext | None) -> None:
        """Keep the head of a request that came alone and in one piece, unless no two are the same here."""
        turn = self._newest
        if self._tries and turn is not before and turn is not None and turn.body_ended and self._in_head:
            self._tries -= 1
            self._again = Again.of(turn.head, data) if self._tries else None

    def _parse(self, data: bytes) -> None:
        """Count what belongs to a head before and after it is parsed, and what of a body is only its framing."""
        if self._in_head:
            self._head_received += len(data)
        else:
            self._body_received += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            return self._read_without_offer(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            return self._end()
        if self.transport.is_closing():
            return None
        if self._in_head and self._head_received > self.limits.block:
            self._refuse(_headers_too_large(self.limits))
            self._end()
        elif not self._in_head and self._body_received - _FRAMING_PER_BYTE * self._body_parsed > self.limits.framing:
            self._refuse(InvalidRequest("The body has too little in its chunks.", code="invalid_request"))
            self._end()
        return self._watch_head()

    def on_message_begin(self) -> None:
        """Begin counting a head."""
        self._target, self._fields = b"", []
        self._head_parsed = 0
        self._begun = True

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request target; one that is too long is refused."""
        self._target += url
        self._head_parsed += len(url)
        if len(self._target) > self.limits.url:
            raise self._refuse(UriTooLong(f"The URL is longer than the {self.limits.url} bytes that are accepted."))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; too many, or too many bytes of them, are refused. Trailers count, and are thrown away."""
        if self._in_head:
            self._fields.append((name.lower(), value))
        self._head_parsed += len(name) + len(value) + _FIELD_OVERHEAD
        if self._head_parsed > self.limits.block or len(self._fields) > self.limits.fields:
            raise self._refuse(_headers_too_large(self.limits))

    def on_headers_complete(self) -> None:
        """Start the request, if its head is one that nobody takes for another."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        try:
            check_head(version, method, self._target, self._fields)
        except InvalidRequest as refusal:
            raise self._refuse(refusal) from None
        if len(self._turns) > self.limits.ahead:
            raise self._refuse(InvalidRequest("Too many requests before their answers.", code="invalid_request"))
        if self._parser.should_upgrade():
            self._offering = True
            return
        keep_alive = self._parser.should_keep_alive()
        self._begin(read_head(method, version, self._target, self._fields, keep_alive=keep_alive))
        self._in_head = False
        self._body_received = self._body_parsed = 0

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; nobody wants more of one whose request is answered."""
        self._body_parsed += len(body)
        turn = self._newest
        if turn is not None and not turn.answer_ended:
            turn.feed(body)

    def on_message_complete(self) -> None:
        """Expect the next head; the parser reports an offered upgrade as a message without a body."""
        if self._offering:
            return
        if self._newest is not None:
            self._newest.end_body()
        self._in_head, self._begun, self._head_received = True, False, 0

    def _begin(self, head: Head, body: bytes | None = None) -> None:
        """Make a request of a head, and of its body where that is here, and serve it if no other is being served."""
        self._newest = turn = RequestContext(self, head, body)
        if self._turns:
            self.pause_reading()
        else:
            self._serve(turn)
        self._turns.append(turn)

    def _serve(self, turn: RequestContext) -> None:
        # By its own name: one that is made up for it takes as long as several steps of its way.
        turn.task = task = asyncio.Task(self.app(turn), loop=self.loop, name=turn.request_id)
        self.state.tasks.add(task)

    def answered(self) -> None:
        """Go on with the next request, or wait for one; what ends the connection is read in time, or dropped."""
        if self.transport.is_closing():
            self._clocks.watch_unread()
            return
        self._turns.popleft()
        if self.reading_paused:
            self.resume_reading()
        if self._turns:
            self._serve(self._turns[0])
        else:
            self._clocks.rest()
            if self._begun and self._in_head:
                self._clocks.watch_head()  # of what came behind the request

    def pause_writing(self) -> None:
        """Start the clock for a client that is behind with reading."""
        super().pause_writing()
        self._clocks.watch_unread()

    def resume_writing(self) -> None:
        """Stop the clock: the client has caught up."""
        super().resume_writing()
        self._clocks.stop_unread()

    def _end(self) -> None:
        """Answer what was refused, in the one shape, and close.

        The body of the request that is being served may be what is refused; it is answered in place of the
        application, which is told that its client is gone. What follows a whole request that is served alone does not
        take its answer from it, which may have been paid for; other refused requests just end the connection.
        """
        if self._turns:
            served = self._turns[0]
            if len(self._turns) == 1 and self._in_head and served.body_ended:
                self._over, served.keep_alive = True, False
                return
            if len(self._turns) > 1 or served.answer_started or served.body_ended:
                self.transport.abort()
                return
            served.lose()
        error = self._refusal or InvalidRequest("This is not a valid HTTP/1.1 request.", code="invalid_request")
        answer = answer_for(error, f"req_{secrets.token_hex(16)}")
        phrase = http.HTTPStatus(answer.status).phrase
        head = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in answer.headers)]
        self.transport.write("\r\n".join([*head, "connection: close", "\r\n"]).encode("latin-1") + answer.body)
        self.transport.close()
        self._clocks.watch_unread()

    def _read_without_offer(self, rest: bytes) -> None:
        """Read the same request again as one that offers nothing; HTTP/1.1 is the answer (RFC 9110, 7.8)."""
        head = [b"%s %s HTTP/1.1" % (self._parser.get_method(), self._target)]
        for name, value in self._fields:
            if name == b"connection":
                kept = [token for token in value.split(b",") if token.strip().lower() not in _OFFERS]
                head.append(b"connection: " + b",".join(kept))
            elif name not in _OFFERS:
                head.append(b"%s: %s" % (name, value))
        self._offering = False
        self._parser = self._new_parser()
        self._parse(b"\r\n".join([*head, b"\r\n"]) + rest)

    def _refuse(self, error: GatewayError) -> GatewayError:
        self._refusal = error
        return error

    def _watch_head(self) -> None:
        """Keep the clock running while a head comes and nothing is being served; blank lines do not start it."""
        if self._turns:
            self._clocks.stop_head()
        elif self._begun:
            self._clocks.watch_head()
        else:
            self._clocks.rest()

    def _head_timed_out(self) -> None:
        if self.transport.is_closing() or self._turns:
            return
        if self._in_head and self._begun:
            self._refuse(RequestTimeout(f"The request's headers took longer than {self.limits.seconds:g} s."))
            self._end()
        else:
            self.transport.close()


def _headers_too_large(limits: HeadLimits) -> HeadersTooLarge:
    return HeadersTooLarge(f"At most {limits.fields} header fields of {limits.block} bytes in all are accepted.")


def guarded(limits: HeadLimits) -> type[GuardedProtocol]:
    """Return the protocol with other limits."""
    own = {"limits": limits, "preambles": Preambles(), "open_files": OpenFiles()}
    return type("GuardedProtocol", (GuardedProtocol,), own)
