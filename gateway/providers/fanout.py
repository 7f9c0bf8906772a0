"""Fan-out: one job as several calls where a provider makes fewer images a call; answers told as events, or with links.

All calls go out at once and are read to their end before anything is passed on: only then is it known what there is to
pass on. What succeeded is the answer; calls that failed are repeated where that is sure to cost nothing
(`repeating.py`), or left out of it, and count as money if they may have been billed. A client that asked for a stream
gets its images as events then, without partial images.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gateway.domain.job import Operation
from gateway.domain.route import Route
from gateway.domain.settlement import Outcome
from gateway.ports.preparing import is_preparing
from gateway.ports.provider import Answer, Call, Cancellable, Provider, Submitted, UpstreamFailure
from gateway.providers.as_events import events
from gateway.providers.as_links import link
from gateway.providers.as_response import as_response
from gateway.providers.collected import CollectedAnswer, Piece
from gateway.providers.format_conversion import convert_formats, wanted_of
from gateway.providers.image_inspection import inspected
from gateway.providers.outcome import of_garbage
from gateway.providers.part import Part, fetch, part_of
from gateway.providers.repeating import made_good

log = logging.getLogger("gateway.providers")

_WEIGHT = {Outcome.NOT_SENT: 0, Outcome.REJECTED: 1, Outcome.UNKNOWN: 2}
"""What a failure may have cost: the heaviest stands for all."""


class FanOut:
    """Implements `ports.Provider` over one that does each call by itself."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._preparing = provider if is_preparing(provider) else None

    def prepare(self, call: Call) -> None:
        """Make a plain job ready, where its provider can."""
        if self._preparing is not None and _is_plain(call):
            self._preparing.prepare(call)

    async def send(self, call: Call) -> Answer:
        """Send the job; a plain one as it is, once its status line is in. Raises UpstreamFailure if nothing came."""
        if call.prepared is not None or _is_plain(call):
            answer = await self._provider.send(call)
            if answer.event_stream is call.job.stream:
                return inspected(answer, call)
            if call.job.operation is Operation.RESPOND:
                return inspected(await as_response(answer, call), call)
            return await _in_the_form_asked_for(answer, call)
        calls = calls_of(call)
        parts = [await fetch(self._provider, calls[0])] if len(calls) == 1 else await self._fetch(calls)
        try:
            if call.repeats is not None and len(parts) > 1:
                await made_good(self._provider, calls, parts, call.repeats)
            await convert_formats(parts, wanted_of(call), call.converter)
            if call.links is not None and not _streams(call):
                await link(parts, call.links)
            return inspected(put_together(parts, call), call)
        except BaseException:
            await _close(parts)
            raise

    async def _fetch(self, calls: Sequence[Call]) -> list[Part]:
        """Do all calls at once; a cancellation ends and frees them all."""
        tasks = [asyncio.create_task(fetch(self._provider, call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await _close([part for part in ended if isinstance(part, Part)])
            raise

    async def cancel(self, route: Route, submitted: Submitted) -> bool:
        """Ask for work to be given up, where the provider can be asked."""
        return isinstance(self._provider, Cancellable) and await self._provider.cancel(route, submitted)

    async def aclose(self) -> None:
        """Close connections."""
        await self._provider.aclose()


async def _in_the_form_asked_for(answer: Answer, call: Call) -> Answer:
    """Tell a document as the events that were asked for, or SDKs would take it for a stream without any image.

    Events in place of a document are garbage, as in any part.
    """
    parts = [await part_of(answer, call.job.n)]
    try:
        await convert_formats(parts, wanted_of(call), call.converter)
        return inspected(put_together(parts, call), call)
    except BaseException:
        await _close(parts)
        raise


async def _close(parts: Sequence[Part]) -> None:
    for part in parts:
        await part.aclose()


def _is_plain(call: Call) -> bool:
    """Tell whether a job is one call whose answer may go on as it comes."""
    if call.calls > 1 or call.as_events or call.links is not None:
        return False
    return call.converter is None or call.job.stream


def calls_of(call: Call) -> list[Call]:
    """Return the calls that make up a job: no streams, and images as evenly divided as the route's `n` allows."""
    if call.calls == 1 and not _streams(call):
        return [call]
    job, changes = replace(call.job, stream=False, partial_images=0), dict(call.changes)
    if _streams(call):
        changes |= {"stream": None, "partial_images": None}
    plain = replace(call, job=job, changes=changes, calls=1, as_events=False)
    if call.calls == 1:
        return [plain]
    number = min(max(call.calls, -(-job.n // call.route.capabilities.n)), job.n)
    return [
        replace(plain, job=replace(job, n=n), changes={**changes, "n": n}, number=place)
        for place, n in enumerate(job.n // number + (place < job.n % number) for place in range(number))
    ]


def _streams(call: Call) -> bool:
    """Tell whether the client is to get events."""
    return call.as_events or call.job.stream


def put_together(parts: Sequence[Part], call: Call) -> CollectedAnswer:
    """Return one answer made of the parts; raises the failure that stands for all if none of them is of use."""
    good = [part for part in parts if part.failure is None]
    failures = [part.failure for part in parts if part.failure is not None]
    if not good:
        return _nothing(parts, failures)
    missing = max(call.job.n - sum(len(part.images) for part in good), 0)
    if failures:
        told = "; ".join(failure.message for failure in failures)
        log.warning("request %s: %d of %d calls failed: %s", call.request_id, len(failures), len(parts), told)
    if not _streams(call):
        return CollectedAnswer(parts, merged(good), missing=missing)
    if not any(part.images for part in good):
        # As a stream it would be an empty one, which clients take for a success.
        broken = of_garbage("the provider answered 200 with no image")
        return CollectedAnswer(parts, (), event_stream=True, broken=broken)
    return CollectedAnswer(parts, events(good, call.job), missing=missing, event_stream=True)


def _nothing(parts: Sequence[Part], failures: Sequence[UpstreamFailure]) -> CollectedAnswer:
    """Raise the failure that may have cost most; as a broken answer where anything is known of what was billed."""
    worst = max(failures, key=lambda failure: (_WEIGHT[failure.outcome], failure.pass_on))
    worst.others = [failure for failure in failures if failure is not worst]
    worst.images = sum(part.n for part in parts if part.may_be_billed)
    if worst.outcome is not Outcome.UNKNOWN or worst.pass_on or all(_is_dark(part) for part in parts):
        raise worst
    return CollectedAnswer(parts, (), broken=worst)


def _is_dark(part: Part) -> bool:
    """Tell whether a call may have been billed and nobody knows how much."""
    return part.may_be_billed and not part.reading.complete


def merged(parts: Sequence[Part]) -> list[Piece]:
    """Return one document: the images of all parts, the tokens of all parts, and all else as the first one says it."""
    best = next((part for part in parts if part.images), parts[0])
    head = {name: value for name, value in best.document.items() if name not in ("data", "usage")}
    opening = json.dumps(head, separators=(",", ":"))[:-1]
    pieces: list[Piece] = [f'{opening}{"," if head else ""}"data":['.encode()]
    images = [_image(part, number) for part in parts for number in range(len(part.images))]
    for number, image in enumerate(images):
        pieces += [b",", *image] if number else image
    usage = ""
    if all(part.reading.usage is not None for part in parts):
        usage = ',"usage":' + json.dumps(_added([part.document["usage"] for part in parts]), separators=(",", ":"))
    return [*pieces, f"]{usage}}}".encode()]


def _image(part: Part, number: int) -> list[Piece]:
    """Return an image as it came, or with its link in place of its content, and of any link that it came with."""
    at, end, inline, _, own = part.images[number]
    url = part.urls.get(number)
    if url is None or inline is None:
        return [*part.pieces_of(number)]
    member, _, content_end = inline
    named = f'"url":{json.dumps(url)}'.encode()
    pieces: list[Piece] = []
    for first, after, instead in sorted([(member, content_end + 1, [named]), *([(*own, [])] if own else [])]):
        pieces += [(part.spool, at, first), *instead]
        at = after
    return [*pieces, (part.spool, at, end)]


def _added(values: Sequence[object]) -> object:
    """Add up whole numbers, and objects name by name; of anything else the first stands for all."""
    numbers = [value for value in values if isinstance(value, int) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return sum(numbers)
    objects = [value for value in values if isinstance(value, Mapping)]
    if len(objects) == len(values):
        names = dict.fromkeys(name for each in objects for name in each)
        return {name: _added([each[name] for each in objects if name in each]) for name in names}
    return values[0]
