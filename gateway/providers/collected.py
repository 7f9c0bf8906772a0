"""Collected: an answer put together from parts that are all here; their images go from disk to the client by range."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from http import HTTPStatus
from operator import add
from typing import Any

from gateway.domain.image_type import OUTPUT_FORMAT as OUTPUT_FORMAT
from gateway.domain.price import Charged
from gateway.domain.settlement import PartReading, Reading
from gateway.ports import Headers
from gateway.ports.provider import UpstreamFailure
from gateway.ports.wrapped import ONE, Several
from gateway.providers.part import Part
from gateway.spool import Spool

MISSING = "X-Gateway-Missing-Images"
"""How many of the images that were asked for are not there."""

NOT_STORED = "X-Gateway-Not-Stored"
"""How many images are given inline although links to them were asked for."""

_OWN = ("content-type", "content-length", MISSING, NOT_STORED, OUTPUT_FORMAT)
"""Headers that a part has of its own, which say nothing of the whole."""

Piece = bytes | tuple[Spool, int, int]
"""Bytes, or a range of a spool."""


class CollectedAnswer:
    """Implements `ports.Answer`. With `broken` it has no body: reading it raises that failure.

    `missing` is how many images there are too few. Closing it frees the parts.
    """

    status = HTTPStatus.OK

    def __init__(
        self,
        parts: Sequence[Part],
        pieces: Sequence[Piece],
        *,
        missing: int = 0,
        event_stream: bool = False,
        broken: UpstreamFailure | None = None,
    ) -> None:
        self._parts = parts
        self._pieces = pieces
        self._missing = missing
        self.event_stream = event_stream
        self._broken = broken

    @property
    def headers(self) -> Headers:
        """Those of the first part that brought images, with the type and length of the whole."""
        best = next((part for part in self._parts if part.images), self._parts[0])
        own = [("content-type", "text/event-stream" if self.event_stream else "application/json")]
        if self.content_length is not None:
            own.append(("content-length", str(self.content_length)))
        if self._missing:
            own.append((MISSING, str(self._missing)))
        if not_linked := sum(part.not_linked for part in self._parts):
            own.append((NOT_STORED, str(not_linked)))
        if other := next((part.other_format for part in self._parts if part.other_format), None):
            own.append((OUTPUT_FORMAT, other))
        return own + [header for header in best.headers if header[0] not in _OWN]

    @property
    def content_length(self) -> int | None:
        """Length of the body in bytes; none for a stream."""
        if self.event_stream:
            return None
        return sum(len(piece) if isinstance(piece, bytes) else piece[2] - piece[1] for piece in self._pieces)

    @property
    def upstream_request_id(self) -> str | None:
        """The provider's ids of the calls, with commas between them."""
        return ",".join(part.upstream_request_id for part in self._parts if part.upstream_request_id) or None

    @property
    def rate_limits(self) -> Mapping[str, str]:
        """What was said of the account's limits: by the call that is to wait longest, if any failed, else the last."""
        said = [part for part in self._parts if part.rate_limits]
        failed = [part for part in said if part.failure]
        strictest = max(failed, key=_wait, default=said[-1] if said else None)
        return strictest.rate_limits if strictest else {}

    @property
    def failures(self) -> Sequence[UpstreamFailure]:
        """What became of the calls that are left out."""
        return [part.failure for part in self._parts if part.failure]

    @property
    def several(self) -> Several:
        """What became of each call, those included that a repeat made good."""
        if len(self._parts) == 1:
            return ONE
        repeated = [failure for part in self._parts for failure in part.repeated]
        return Several([*repeated, *self.failures], [part.seconds for part in self._parts if part.failure is None])

    def at_once(self) -> None:
        """Have it read by chunks."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body; raises the failure if there is none."""
        if self._broken is not None:
            raise self._broken
        for piece in self._pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            spool, start, end = piece
            async for chunk in spool.read(start, end):
                # Between the tokens of a document lines may break; within an event they would tear it.
                yield chunk.replace(b"\n", b" ").replace(b"\r", b" ") if self.event_stream else chunk

    def reading(self) -> Reading:
        """Return what the parts said, together and one by one."""
        return _sum(self._parts, complete=self._broken is None)

    async def aclose(self) -> None:
        """Free memory and temporary files; harmless when repeated."""
        for part in self._parts:
            await part.aclose()


def _wait(part: Part) -> float:
    """The seconds that a call which failed was told to wait."""
    return (part.failure and part.failure.retry_after) or 0.0


def _sum(parts: Sequence[Part], *, complete: bool) -> Reading:
    told = [part.reading for part in parts if part.failure is None] or [Reading()]
    best = next((reading for reading in told if reading.images), told[0])
    usages = [reading.usage for reading in told if reading.usage is not None]
    every = len(usages) == len(told)
    return replace(
        best,
        images=sum(reading.images for reading in told),
        usage=reduce(add, usages) if every else None,
        usage_problem=next((reading.usage_problem for reading in told if reading.usage is None), None),
        complete=complete,
        **_counted(told),
        parts=tuple(reading for part in parts if part.may_be_billed or part.charged_for for reading in _readings(part)),
    )


def _readings(part: Part) -> Sequence[PartReading]:
    """What settling needs of a call; of a refusal that may be charged, what the provider said of that.

    Images withheld beside others are such a refusal, of which nothing was said unless the answer tells its bill.
    """
    failure, reading = part.failure, part.reading
    if part.charged_for is not None and failure is not None:
        return [PartReading(part.n, failure.reading or Reading(), part.charged_for)]
    if len(reading.parts) > 1:  # it told them apart itself
        return reading.parts
    if not part.withheld or (reading.usage, reading.reported, reading.units) != (None, None, None):
        return [PartReading(part.n, reading)]
    given = PartReading(max(part.n - part.withheld, reading.images), reading)
    return [given, PartReading(part.withheld, Reading(), Charged.MODERATED)]


def _counted(told: Sequence[Reading]) -> dict[str, Any]:
    """The sums of what each call reported and counted; nothing where one of them did not say."""
    counts = {name: [getattr(reading, name) for reading in told] for name in ("reported", "units", "seconds")}
    return {name: None if None in each else sum(each) for name, each in counts.items()}
