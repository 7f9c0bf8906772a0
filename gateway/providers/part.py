"""Part: one of the calls that make up an answer, sent, read to its end and kept until its images are passed on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.domain.errors import Unavailable
from gateway.domain.settlement import Outcome, Reading
from gateway.ports import Headers
from gateway.ports.provider import Answer, Call, Provider, UpstreamFailure
from gateway.providers.content import Content, Element
from gateway.providers.outcome import of_garbage
from gateway.spool import Spool

IN_MEMORY = 1024 * 1024
"""Bytes of one answer that are kept in memory; a longer one goes to disk."""


@dataclass(slots=True)
class Part:
    """A call for `n` images and what came of it: a document, or the failure.

    `images` lie in `spool`; `urls` are links to some of them, by number. `reading` is what the answer said as far as it
    came, nothing if none did.
    """

    n: int
    failure: UpstreamFailure | None = None
    document: Mapping[str, object] = field(default_factory=dict)
    images: Sequence[Element] = ()
    urls: dict[int, str] = field(default_factory=dict)
    spool: Spool = field(default_factory=lambda: Spool(IN_MEMORY))
    reading: Reading = field(default_factory=Reading)
    headers: Headers = ()
    upstream_request_id: str | None = None
    rate_limits: Mapping[str, str] = field(default_factory=dict)
    replaced: dict[int, Spool] = field(default_factory=dict)
    """Images that were converted, by number, as base64."""
    other_format: str | None = None
    """The format of an image that is not of the one asked for."""
    not_linked: int = 0
    """How many images could not be kept for a link."""
    repeated: Sequence[UpstreamFailure] = ()
    """What became of it before, each time that it was done again."""
    fetched: list[Spool] = field(default_factory=list)
    """Images that were fetched from where the answer said, as base64."""
    seconds: float = 0.0
    """How long the call took, where it is one of several."""
    withheld: int = 0
    """How many images were made and, by content moderation, not given, beside those that were."""

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may charge for it."""
        return self.failure is None or self.failure.outcome is Outcome.UNKNOWN

    @property
    def charged_for(self) -> str | None:
        """As what it was refused, where the provider may charge for that."""
        return None if self.may_be_billed or self.failure is None else self.failure.charged_for

    def text_of(self, number: int) -> tuple[Spool, int, int] | None:
        """Return where the base64 of an image lies; None for one that is a link."""
        inline, replaced = self.images[number].inline, self.replaced.get(number)
        if inline is None:
            return None
        return (self.spool, inline[1], inline[2]) if replaced is None else (replaced, 0, replaced.size)

    def pieces_of(self, number: int) -> list[tuple[Spool, int, int]]:
        """Return an image's object as it came, with its content converted if it was."""
        start, end, inline, *_ = self.images[number]
        replaced = self.replaced.get(number)
        if replaced is None or inline is None:
            return [(self.spool, start, end)]
        return [(self.spool, start, inline[1]), (replaced, 0, replaced.size), (self.spool, inline[2], end)]

    async def aclose(self) -> None:
        """Free memory and temporary files."""
        for spool in (self.spool, *self.replaced.values(), *self.fetched):
            await spool.aclose()


async def fetch(provider: Provider, call: Call) -> Part:
    """Do one call to its end; whatever the provider does wrong is in the part, and nothing is raised for it."""
    began = time.monotonic()
    try:
        answer = await provider.send(call)
    except UpstreamFailure as failure:
        return Part(call.job.n, failure, rate_limits=failure.rate_limits)
    part = await part_of(answer, call.job.n)
    part.seconds = time.monotonic() - began
    return part


async def part_of(answer: Answer, n: int) -> Part:
    """Read an answer for `n` images to its end, and close it."""
    part = Part(n)
    part.headers, part.rate_limits = answer.headers, answer.rate_limits
    part.upstream_request_id = answer.upstream_request_id
    whole = False
    try:
        await read_into(answer, part)
        whole = True
    except UpstreamFailure as failure:
        part.failure, whole = failure, True
    finally:
        await answer.aclose()
        if not whole:
            await part.aclose()
    return part


async def read_into(answer: Answer, part: Part) -> Content:
    """Read an answer into its part; raises UpstreamFailure if it breaks off, cannot be kept, or is no document."""
    content = Content()
    try:
        async for chunk in answer.chunks():
            content.feed(chunk)
            part.spool.write(chunk)
            await part.spool.drain()
    except Unavailable as error:
        raise UpstreamFailure(Outcome.UNKNOWN, "no_room", "the answer does not fit on the gateway's disk") from error
    finally:
        part.reading = answer.reading()
    document = None if answer.event_stream else content.document()
    if document is None:
        raise of_garbage("the answer is no JSON document")
    part.document, part.images = document, content.images()
    return content
