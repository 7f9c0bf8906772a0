"""Images: each kept once under its hash in the storage, for as long as policy says after it was last made.

There is no index beside the storage that could differ from it: names tell whose an image is, so a project's images are
a list of names, on disk as in a bucket. The oldest of a project go first once they are more than its quota.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.assets.clock import Now, own_time
from gateway.domain.image_type import type_of
from gateway.domain.links import digest_of, is_name, mark_of, mark_of_name, name_of
from gateway.images.linking import Found, KeptImage
from gateway.ports.storage import SLOW, Blob, Blobs, StorageUnavailable, Stored

log = logging.getLogger(__name__)

DAY = 86_400.0
MOST_BYTES = 10 * 2**30
"""How many bytes of images are kept on a disk, unless the projects' quotas together are more."""
SWEEP_EVERY = 600.0
"""Seconds between two looks for what may go."""
SWEEP_AFTER = 2**30
"""Bytes after which one looks at once, so that a burst cannot fill a disk meanwhile."""
PATIENCE = 20.0
"""The longest that keeping one image may take, seconds: somebody may be waiting for its link."""
_START = 4096
"""Bytes by which the type is told; an SVG may begin with a comment."""
_FOLDER = "images"


class Terms(NamedTuple):
    """How a project's images are kept: for how many seconds, and how many bytes of them (None: no quota)."""

    project: str
    kept_for: float = DAY
    quota: int | None = None


class ImageStore:
    """Implements `gateway.images.linking.Images`. `terms` are those of each project now, by its mark in names.

    `most` is how many bytes there may be of all projects together (None: any number). A look for what may go begins
    after `sweep_after` new bytes; `now` tells it what is too old.
    """

    def __init__(
        self,
        blobs: Blobs,
        terms: Callable[[], Mapping[str, Terms]],
        *,
        most: int | None = MOST_BYTES,
        sweep_after: int = SWEEP_AFTER,
        patience: float = PATIENCE,
        now: Now = own_time,
    ) -> None:
        self._now = now
        self._blobs = blobs
        self._terms = terms
        self._most = most
        self._sweep_after = sweep_after
        self._patience = patience
        self._written = 0
        self._full = asyncio.Event()
        self._held: dict[str, int] = {}

    def _of(self, mark: str) -> Terms:
        return self._terms().get(mark) or Terms("")

    @property
    def held(self) -> Mapping[str, int]:
        """Bytes of each project's images, by its name, as they were at the last look."""
        return self._held

    async def keep(self, project: str, content: AsyncIterator[bytes]) -> KeptImage:
        """Keep an image; raises what `content` raises, or StorageUnavailable. Nothing stays behind then."""
        start, digest = bytearray(), hashlib.sha256()

        async def passing() -> AsyncIterator[bytes]:
            async for batch in content:
                digest.update(batch)
                if len(start) < _START:
                    start.extend(batch[:_START])
                yield batch

        try:
            async with asyncio.timeout(self._patience):
                length = await self._blobs.put(
                    lambda: _blob(name_of(project, digest.hexdigest())), passing(), durable=False
                )
        except TimeoutError as error:
            raise StorageUnavailable(f"an image was not kept within {self._patience:g} s", SLOW) from error
        self._written += length
        if self._written >= self._sweep_after:
            self._written = 0
            self._full.set()
        name = name_of(project, digest.hexdigest())
        return KeptImage(name, length, type_of(bytes(start)), time.time() + self._of(mark_of(project)).kept_for)

    async def kept_until(self, name: str) -> float | None:
        """Return the Unix time until which an image is kept; None if there is none by that name (any more)."""
        blob = await self._get(name)
        until = 0.0 if blob is None else blob.modified + self._of(mark_of_name(name)).kept_for
        return until if until >= time.time() else None

    async def find(self, name: str) -> Found | None:
        """Return an image with its type; None if there is none by that name (any more)."""
        blob = await self._get(name)
        if blob is None or blob.modified + self._of(mark_of_name(name)).kept_for < time.time():
            return None
        start = b"".join([chunk async for chunk in blob.chunks(0, min(blob.length, _START))])
        return Found(blob, type_of(start), blob.modified + self._of(mark_of_name(name)).kept_for)

    async def _get(self, name: str) -> Blob | None:
        """Return what lies there for an image; an empty file is what a power loss left of one."""
        blob = await self._blobs.get(_blob(name)) if is_name(name) else None
        return blob if blob is not None and blob.length else None

    async def delete(self, name: str) -> bool:
        """Delete an image, and tell whether there was one."""
        return is_name(name) and await self._blobs.delete(_blob(name))

    async def listing(self, project: str, *, after: str, most: int) -> list[KeptImage]:
        """Return images of a project in the order of their names, from the one that follows `after` on.

        Their type is not looked up.
        """
        mark, found = mark_of(project), list[KeptImage]()
        kept_for, now = self._of(mark).kept_for, time.time()
        follows = _blob(after) if is_name(after) else ""
        async with contextlib.aclosing(self._blobs.list(f"{_FOLDER}/{mark}", after=follows)) as stored:
            async for each in stored:
                if each.modified + kept_for >= now and is_name(name := _name(each.name)):
                    found.append(KeptImage(name, each.length, "", each.modified + kept_for))
                    if len(found) == most:
                        break
        return found

    async def run(self) -> None:
        """Delete what is too old or too much, again and again, until cancelled."""
        while True:
            self._full.clear()
            try:
                await self.sweep()
            except StorageUnavailable as error:
                log.warning("old images cannot be deleted: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_EVERY):
                    await self._full.wait()

    async def sweep(self) -> int:
        """Delete images that are older than they are kept, and the oldest of too many; returns how many."""
        now, deleted, kept = await self._now(), 0, dict[str, list[Stored]]()
        async for each in self._blobs.list(_FOLDER):
            mark = mark_of_name(_name(each.name))
            limit = now - self._of(mark).kept_for
            if each.modified <= limit:
                deleted += await self._blobs.delete(each.name, unless_after=limit)
            else:
                kept.setdefault(mark, []).append(each)
        for mark, images in kept.items():
            quota = self._of(mark).quota
            for each in list(_beyond(images, quota)):
                deleted += await self._blobs.delete(each.name, unless_after=each.modified)
                images.remove(each)
        for each in list(_beyond([each for images in kept.values() for each in images], self._room())):
            deleted += await self._blobs.delete(each.name, unless_after=each.modified)
            kept[mark_of_name(_name(each.name))].remove(each)
        self._held = {terms.project: 0 for terms in self._terms().values()}
        for mark, images in kept.items():
            project = self._of(mark).project
            self._held[project] = self._held.get(project, 0) + sum(each.length for each in images)
        return deleted

    def _room(self) -> int | None:
        """Return how many bytes there may be of all projects together."""
        if self._most is None:
            return None
        return max(self._most, sum(terms.quota or 0 for terms in self._terms().values()))


def _beyond(images: Sequence[Stored], most: int | None) -> Iterator[Stored]:
    """Yield the oldest images that are too many."""
    if most is None:
        return
    size = sum(each.length for each in images)
    for each in sorted(images, key=lambda each: each.modified):
        if size <= most:
            return
        size -= each.length
        yield each


def _blob(name: str) -> str:
    """The name under which an image lies in the storage: a folder for each project."""
    return f"{_FOLDER}/{mark_of_name(name)}/{digest_of(name)}"


def _name(blob: str) -> str:
    """The name of an image that lies there; of no image, if it is none."""
    parts = blob.split("/")
    return f"img_{parts[1]}_{parts[2]}" if len(parts) == 3 else ""  # noqa: PLR2004 - as `_blob` makes them
