"""As response: a conversation's answer told in the form that was asked for, where its account took the other one.

A document becomes the one event that says the same, `response.<status>`; of events the last response that any of them
carries is the document. SDKs would else see a stream without events, or a text in place of a response.
"""

from __future__ import annotations

import json

from gateway.domain.errors import Unavailable
from gateway.domain.responses import ENDED, UNDER_WAY
from gateway.domain.settlement import Outcome
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.ports.whole import WholeAnswer
from gateway.providers.collected import CollectedAnswer, Piece
from gateway.providers.outcome import of_garbage
from gateway.providers.part import Part

_OTHERS = ("content-type", "content-length")
"""Headers that say nothing of the answer in its new form."""


async def as_response(answer: Answer, call: Call) -> Answer:
    """Read an answer that is not in the form asked for to its end, close it, and return it in that form.

    What cannot be told in it is an answer that breaks off before its first byte.
    """
    part = Part(call.job.n, headers=answer.headers, rate_limits=answer.rate_limits)
    part.upstream_request_id = answer.upstream_request_id
    kept = False
    try:
        told = await (_as_document(answer, part) if answer.event_stream else _as_event(answer, part))
        kept = True
        return told
    finally:
        await answer.aclose()
        if not kept:
            await part.aclose()


async def _as_event(answer: Answer, part: Part) -> CollectedAnswer:
    broken: UpstreamFailure | None = None
    try:
        async for chunk in answer.chunks():
            part.spool.write(chunk)
            await part.spool.drain()
    except Unavailable:
        broken = UpstreamFailure(Outcome.UNKNOWN, "no_room", "the answer does not fit on the gateway's disk")
    except UpstreamFailure as failure:
        broken = failure
    part.reading = answer.reading()
    status = part.reading.said and part.reading.said.status
    if broken is None and status not in ENDED | UNDER_WAY:
        broken = of_garbage("the provider answered 200 with no response")
    kind = f"response.{status}"
    head = f'event: {kind}\ndata: {{"type":"{kind}","sequence_number":0,"response":'.encode()
    pieces: list[Piece] = [head, (part.spool, 0, part.spool.size), b"}\n\n"]
    return CollectedAnswer([part], pieces, event_stream=True, broken=broken)


async def _as_document(answer: Answer, part: Part) -> Answer:
    events, broken = _Events(), of_garbage("the provider answered with events, and none holds the response")
    try:
        async for chunk in answer.chunks():
            events.feed(chunk)
    except UpstreamFailure as failure:
        broken = failure  # the response may be here already
    reading = part.reading = answer.reading()
    document = events.response()
    if document is None or not reading.complete:
        return CollectedAnswer([part], (), broken=broken)
    body = json.dumps(document).encode()
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    headers += [header for header in answer.headers if header[0] not in _OTHERS]
    own, limits = answer.upstream_request_id, answer.rate_limits
    return WholeAnswer(answer.status, headers, body, reading, limits, own)


class _Events:
    """Finds the response that the last event carries which carries one; whatever others follow it."""

    def __init__(self) -> None:
        self._half, self._line, self._data = b"", bytearray(), bytearray()
        self._response: dict[str, object] | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, cut anywhere; lines may end in each of the three ways."""
        chunk = self._half + chunk
        self._half = b"\r" if chunk.endswith(b"\r") else b""  # the other half of a line end may follow
        chunk = chunk.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        begun, *others = chunk.split(b"\n")
        self._line += begun
        for begun in others:
            self._end_line()
            self._line += begun

    def response(self) -> dict[str, object] | None:
        """Return it, once all bytes are in; None if there is none."""
        for _ in range(2):  # the last line, and the empty one that may be missing
            self._end_line()
        return self._response

    def _end_line(self) -> None:
        line, self._line = self._line, bytearray()
        if line.startswith(b"data:"):
            self._data += line.removeprefix(b"data:") + b"\n"
        elif not line:
            data, self._data = self._data, bytearray()
            self._response = (_response_in(data) if b'"response"' in data else None) or self._response


def _response_in(data: bytearray) -> dict[str, object] | None:
    """Return the response that an event's data carry; None if they carry none."""
    try:
        event = json.loads(data.decode(errors="replace"))
    except (ValueError, RecursionError):
        return None
    response = event.get("response") if isinstance(event, dict) else None
    return response if isinstance(response, dict) else None
