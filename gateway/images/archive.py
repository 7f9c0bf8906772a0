"""Archive: images that are kept beside an answer on its way, and what is remembered of them for records and repeats.

Nothing here holds an answer up, and no error of the storage reaches a client: what could not be kept is counted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from gateway.domain.policy import JobType, Project, Store
from gateway.images.answer_cache import AnswerCache
from gateway.images.linking import KeptImage, Linker, NoLinks, ProjectLinks
from gateway.ports import Outbound
from gateway.ports.provider import Converter
from gateway.ports.storage import Blobs, StorageUnavailable
from gateway.request.exchange import Admitted, Exchange

log = logging.getLogger(__name__)

Image = Callable[[], AsyncIterator[bytes]]
Document = Mapping[str, Any]
Free = Callable[[], Coroutine[Any, Any, None]]

_ALWAYS: Final = Store.ALWAYS
AT_ONCE = 4
"""Answers whose images are put in the storage at the same time."""
MOST_WAITING = 64
"""Answers that may wait for their turn, each on disk meanwhile."""
BUSY = "busy"
"""Why images are not kept that came while too many waited."""
LAST_SECONDS = 1.0
"""For the note of a request whose time is up: a storage may take far longer."""
_LONGEST_NOTE = 1024 * 1024
_REQUEST_ID = re.compile(r"req_[A-Za-z0-9_]{1,96}", re.ASCII)


def note_name(request_id: str) -> str:
    """Return the name under which it is noted what was kept of a request."""
    return f"records/{request_id}"


class Archives:
    """Keeps images for all requests of a process. `converter` makes the format that was asked for."""

    def __init__(self, linker: Linker, blobs: Blobs, cache: AnswerCache, converter: Converter | None = None) -> None:
        self.linker = linker
        self.cache = cache
        self._blobs = blobs
        self._converter = converter
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()

    def equip(self, exchange: Exchange, project: Project, job_type: JobType) -> None:
        """Give a request what policy has its images kept and converted with, and nothing else; its job is known."""
        exchange.archive = exchange.links = exchange.converter = None  # a policy it waited under may have had others
        job, rules = exchange.job, project.images
        cached = job_type.cache is not None and rules.store is not Store.NEVER and job is not None and not job.stream
        archived = rules.store is _ALWAYS or cached
        if archived:
            exchange.archive = RequestArchive(self, exchange, project.name, cached=cached)
        if job is not None and job.links:
            headers, keeps = exchange.inbound.headers, rules.store is not Store.NEVER
            exchange.links = self.linker.links(project.name, headers, archived=archived) if keeps else NoLinks()
        if rules.convert:
            exchange.converter = self._converter

    def begin(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do something in the background; False, and it is never done, if too much waits already."""
        if len(self._tasks) >= MOST_WAITING:
            work.close()
            return False
        self.spawn(self._in_turn(work))
        return True

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background, at once and whatever else waits."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("what was to be kept is not", exc_info=error)

    async def _in_turn(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with self._turn:
                await work
        finally:
            work.close()  # it never began, if this was cancelled in the queue

    async def note(self, request_id: str, about: Document) -> None:
        """Remember something of a request; what cannot be is logged."""
        try:
            await self._blobs.put(note_name(request_id), _once(json.dumps(about).encode()), durable=False)
        except StorageUnavailable as error:
            log.warning("what was kept of request %s is not noted: %s", request_id, error)

    async def noted(self, request_id: str) -> Document | None:
        """Return what was noted of a request; None if nothing was, or nobody can tell."""
        if not _REQUEST_ID.fullmatch(request_id):  # whoever asks may ask for anything
            return None
        try:
            blob = await self._blobs.get(note_name(request_id))
            if blob is None or blob.length > _LONGEST_NOTE:
                return None
            told = json.loads(b"".join([chunk async for chunk in blob.chunks(0, blob.length)]))
        except (StorageUnavailable, ValueError) as error:
            log.warning("what was kept of request %s cannot be read: %s", request_id, error)
            return None
        return told if isinstance(told, dict) else None

    async def assets(self, project: str, note: Document, base: str) -> list[dict[str, object]]:
        """Return those of the images noted of a request that are still kept, with links."""
        told = []
        for each in note.get("assets", ()):
            url = await self.linker.again(project, f"{base}/v1/assets/{each['id']}")
            if "?" in url:
                told.append({"id": each["id"], "url": url, "bytes": each["bytes"], "type": each["type"]})
        return told

    async def answered(self, admitted: Admitted, today: Callable[[], date]) -> Outbound | None:
        """Return the answer of an earlier request that was the same, at no cost; None where it must be made."""
        try:
            hit = await self.cache.answer(admitted, today)
        except BaseException:
            await admitted.body.aclose()
            raise
        if hit is None:
            return None
        if not self.begin(self.note(admitted.request_id, hit.note)):
            log.warning("request %s is not noted, which an earlier one answered: too many wait", admitted.request_id)
        return hit.answer

    async def record(self, project: str, request_id: str, base: str) -> dict[str, object] | None:
        """Return the record of a request that was answered by an earlier one's images; None if it was not."""
        note = await self.noted(request_id)
        if note is None or note.get("project") != project or not isinstance(note.get("record"), dict):
            return None
        return {**note["record"], "assets": await self.assets(project, note, base)}

    async def kept(self, project: str, request_id: str, base: str) -> list[dict[str, object]]:
        """Return the images of a request of the project that are kept."""
        note = await self.noted(request_id)
        return [] if note is None or note.get("project") != project else await self.assets(project, note, base)

    async def aclose(self, seconds: float) -> None:
        """Finish what is under way, within this time."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(slots=True)
class RequestArchive:
    """Implements `ports.provider.Archive` for one request; `cached` tells that its answer is to be found again."""

    archives: Archives
    exchange: Exchange
    project: str
    cached: bool

    def take(self, images: Sequence[Image], document: Document, free: Free) -> None:
        """Keep the images of an answer that is whole, and free it in the end; returns at once."""
        links = self.exchange.links
        linked = tuple(links.kept) if isinstance(links, ProjectLinks) else ()
        work = self._keep(linked, images, document, free)
        if not self.archives.begin(work):
            self.lost(BUSY, len(images))
            self.archives.spawn(free())

    def lost(self, reason: str, images: int) -> None:
        """Count images that could not be taken in passing."""
        if images:
            self.archives.linker.lost(reason, images)

    async def _keep(
        self,
        linked: Sequence[KeptImage],
        images: Sequence[Image],
        document: Document,
        free: Free,
    ) -> None:
        kept = list(linked)
        try:
            for image in images:
                try:
                    kept.append(await self.archives.linker.keep(self.project, image()))
                except (StorageUnavailable, ValueError) as error:
                    log.warning("an image of request %s is not kept: %s", self.exchange.inbound.request_id, error)
        finally:
            await free()
        if not kept:
            return
        whole = not linked or not images  # else nobody can tell their order
        try:
            if self.cached and whole and self.exchange.cache_key is not None:
                await self.archives.cache.keep(self.exchange, document, kept)
        except BaseException:  # they take room all the same; but whoever stops has no time
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_SECONDS):
                    await self._note(kept)
            raise
        await self._note(kept)

    async def _note(self, kept: Sequence[KeptImage]) -> None:
        told = [{"id": each.name, "bytes": each.length, "type": each.media_type} for each in kept]
        await self.archives.note(self.exchange.inbound.request_id, {"project": self.project, "assets": told})


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
