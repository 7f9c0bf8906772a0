"""Linking: images that are kept, for clients that fetch them by link."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import NamedTuple, Protocol
from urllib.parse import parse_qsl

from gateway.domain.errors import Forbidden, NotFound, Unavailable
from gateway.domain.links import SIGNATURE, Signer, belongs_to, is_name
from gateway.images.ranges import image_answer
from gateway.observe.event import AssetNotKept, Observer
from gateway.ports import Outbound
from gateway.ports.provider import Links
from gateway.ports.storage import SLOW, Blob, StorageUnavailable

log = logging.getLogger(__name__)

PATH = "/v1/assets/"
PATIENCE = 20.0
"""The longest that a client waits for its images to be kept, all of them together, seconds."""
NEVER, NOT_AN_IMAGE = "never", "not_an_image"
"""Reasons for which an image is not kept, besides those of the storage."""

_HOST = re.compile(r"[A-Za-z0-9._~:\[\]-]{1,255}", re.ASCII)


class KeptImage(NamedTuple):
    """An image that is kept: its name, bytes and media type, and the Unix time until which it stays."""

    name: str
    length: int
    media_type: str
    until: float


class Found(NamedTuple):
    """An image to be sent: its bytes and media type, and the Unix time until which it stays."""

    blob: Blob
    media_type: str
    until: float


class Images(Protocol):
    """Images of projects, kept as policy says. Every method raises StorageUnavailable."""

    async def keep(self, project: str, content: AsyncIterator[bytes]) -> KeptImage:
        """Keep an image; also raises what `content` raises."""

    async def kept_until(self, name: str) -> float | None:
        """Return the Unix time until which an image is kept; None if there is none by that name (any more)."""

    async def find(self, name: str) -> Found | None:
        """Return an image; None if there is none by that name (any more)."""

    async def delete(self, name: str) -> bool:
        """Delete an image, and tell whether there was one."""

    async def listing(self, project: str, *, after: str, most: int) -> list[KeptImage]:
        """Return images of a project in the order of their names, without their types."""


class Linker:
    """Makes links to images and follows them. `public_url` is the gateway's own address, where requests don't tell it.

    `clock` is Unix seconds. `observer` hears of images that could not be kept.
    """

    def __init__(
        self,
        images: Images,
        signer: Signer,
        *,
        public_url: str | None = None,
        clock: Callable[[], float] = time.time,
        observer: Observer | None = None,
        patience: float = PATIENCE,
    ) -> None:
        self.images = images
        self._signer = signer
        self._public_url = public_url
        self._clock = clock
        self._observer = observer
        self._patience = patience

    def links(self, project: str, headers: Mapping[str, str], *, archived: bool = False) -> ProjectLinks:
        """Return where the images of a request are kept: its links lead to the host that the client called."""
        return self.links_at(project, self.base(headers), archived=archived)

    def links_at(self, project: str, base: str, *, archived: bool = False) -> ProjectLinks:
        """Return where the images of a request are kept whose client reached the gateway under `base`.

        What is given inline instead is kept by an archive where it is `archived`, which counts what it cannot.
        """
        return ProjectLinks(self, project, base, self._patience, archived=archived)

    def uploads(self, project: str) -> Links | None:
        """Return where input images are kept for providers to fetch; None without an address that they could reach."""
        return self.links_at(project, self._public_url.rstrip("/")) if self._public_url is not None else None

    def base(self, headers: Mapping[str, str]) -> str:
        """Return the URL under which a client reached the gateway, without a slash at its end; empty if unknown."""
        if self._public_url is not None:
            return self._public_url.rstrip("/")
        host = headers.get("host", "")
        return f"http://{host}" if _HOST.fullmatch(host) else ""

    async def keep(self, project: str, content: AsyncIterator[bytes]) -> KeptImage:
        """Keep an image; raises StorageUnavailable, or ValueError if it is none. Either is counted."""
        try:
            return await self.images.keep(project, content)
        except StorageUnavailable as error:
            self.lost(error.reason)
            raise
        except ValueError:
            self.lost(NOT_AN_IMAGE)
            raise

    def lost(self, reason: str, images: int = 1) -> None:
        """Count images that were to be kept and are not."""
        log.warning("%d images are not kept: %s", images, reason)
        if self._observer is not None:
            self._observer.emit(AssetNotKept(reason, images))

    def link(self, base: str, kept: KeptImage) -> str:
        """Return the link to an image, good for as long as it is kept."""
        return f"{base}{PATH}{kept.name}?{self._signer.query(kept.name, int(kept.until))}"

    def named(self, url: str, project: str) -> str | None:
        """Return the name of the project's image that a link is to; None if the link is not good, or to another's."""
        name, _, query = url.partition(PATH)[2].partition("?")
        if not belongs_to(name, project):
            return None
        try:
            self._signer.check(name, dict(parse_qsl(query, keep_blank_values=True)), self._clock())
        except Forbidden:
            return None
        return name

    def is_public(self, url: str) -> bool:
        """Tell whether a URL leads to images under the gateway's own address, as it was configured."""
        return self._public_url is not None and url.startswith(self._public_url.rstrip("/") + PATH)

    async def again(self, project: str, url: str) -> str:
        """Return a link to an image of the project, good for as long as that is kept; the same URL if none is."""
        base, found, rest = url.partition(PATH)
        name = rest.partition("?")[0]
        if not found or not belongs_to(name, project):
            return url
        try:
            until = await self.images.kept_until(name)
        except StorageUnavailable as error:
            log.warning("nobody can tell whether image %s is kept: %s", name, error)
            return url
        return url if until is None else self.link(base, KeptImage(name, 0, "", until))

    async def follow(
        self, name: str, query: Mapping[str, str], project: str | None, headers: Mapping[str, str]
    ) -> Outbound:
        """Return an image, or the part of it that `headers` ask for: by a signed query, or for its own project.

        Forbidden if the link is not good, NotFound if there is no such image, or none that this project may see.
        """
        if SIGNATURE in query:
            self._signer.check(name, query, self._clock())
        elif project is None or not belongs_to(name, project):
            raise not_found(name)
        try:
            image = await self.images.find(name) if is_name(name) else None
        except StorageUnavailable as error:
            raise away(error) from error
        if image is None:
            raise not_found(name)
        return image_answer(name, image.blob, image.media_type, headers, max(int(image.until - self._clock()), 0))


class ProjectLinks:
    """Implements `ports.Links` for one request, and remembers what it kept."""

    __slots__ = ("_archived", "_base", "_linker", "_patience", "_project", "_until", "kept")

    def __init__(self, linker: Linker, project: str, base: str, patience: float, *, archived: bool) -> None:
        self._linker = linker
        self._archived = archived
        self._project = project
        self._base = base
        self._patience = patience
        self._until: float | None = None
        self.kept: list[KeptImage] = []

    async def keep(self, content: AsyncIterator[bytes]) -> str:
        """Keep an image and return its URL; raises StorageUnavailable, or ValueError if it is none."""
        now = asyncio.get_running_loop().time()
        self._until = self._until or now + self._patience
        keep = self._linker.images.keep if self._archived else self._linker.keep
        try:
            async with asyncio.timeout_at(self._until):
                kept = await keep(self._project, content)
        except TimeoutError as error:
            if not self._archived:
                self._linker.lost(SLOW)
            raise StorageUnavailable(f"images were not kept within {self._patience:g} s", SLOW) from error
        self.kept.append(kept)
        return self.link_to(kept)

    def link_to(self, kept: KeptImage) -> str:
        """Return the link to an image that is kept."""
        return self._linker.link(self._base, kept)


class NoLinks:
    """Implements `ports.Links` for projects of which nothing is kept."""

    async def keep(self, content: AsyncIterator[bytes]) -> str:
        """Refuse."""
        del content
        raise StorageUnavailable("policy has the project's images kept never", NEVER)


def away(error: StorageUnavailable) -> Unavailable:
    """Return the error for an image that nobody can look for now."""
    log.warning("images cannot be looked for: %s", error)
    return Unavailable("The storage does not answer.", code="storage_unavailable", retry_after=2)


def not_found(name: str) -> NotFound:
    """Return the error for an image that is unknown, deleted, or another project's."""
    return NotFound(f"No image {name[:100]!r} is kept here.", param="id")
