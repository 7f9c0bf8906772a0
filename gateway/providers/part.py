"""Part: one of the calls that make up an answer, sent, read to its end and kept until its images are passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.domain.errors import Unavailable
from gateway.domain.settlement import Outcome, Reading
from gateway.ports import Answer, Call, Headers, Provider, UpstreamFailure
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

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may charge for it."""
        return self.failure is None or self.failure.outcome is Outcome.UNKNOWN

    async def aclose(self) -> None:
        """Free memory and the temporary file."""
        await self.spool.aclose()


async def fetch(provider: Provider, call: Call) -> Part:
    """Do one call to its end; whatever the provider does wrong is in the part, and nothing is raised for it."""
    part = Part(call.job.n)
    try:
        answer = await provider.send(call)
    except UpstreamFailure as failure:
        part.failure, part.rate_limits = failure, failure.rate_limits
        return part
    part.headers, part.rate_limits = answer.headers, answer.rate_limits
    part.upstream_request_id = answer.upstream_request_id
    whole = False
    try:
        await _read(answer, part)
        whole = True
    except UpstreamFailure as failure:
        part.failure, whole = failure, True
    finally:
        await answer.aclose()
        if not whole:
            await part.aclose()
    return part


async def _read(answer: Answer, part: Part) -> None:
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
