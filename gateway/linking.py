"""Linking: images that are fetched by link, for clients of models that answered with links."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol

from gateway.domain.errors import NotFound
from gateway.domain.links import SIGNATURE, Signer, belongs_to, is_name
from gateway.ports import Links, Outbound

GOOD_FOR = 86_400
"""Seconds for which a link is good."""
PATH = "/v1/assets/"

_HOST = re.compile(r"[A-Za-z0-9._~:\[\]-]{1,255}", re.ASCII)
_SAFE = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
)
"""What keeps a browser from taking an image for something else, or from running what stands in it."""


class Images(Protocol):
    """Images kept for a day."""

    async def keep(self, project: str, content: AsyncIterator[bytes]) -> str:
        """Keep an image and return its name; raises what `content` raises, or OSError."""

    async def find(self, name: str) -> Outbound | None:
        """Return an image with its type and length; None if there is none by that name (any more)."""


class Linker:
    """Makes links to images and follows them. `public_url` is the gateway's own address, where requests don't tell it.

    `clock` is Unix seconds.
    """

    def __init__(
        self,
        images: Images,
        signer: Signer,
        *,
        public_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._images = images
        self._signer = signer
        self._public_url = public_url
        self._clock = clock

    def links(self, project: str, headers: Mapping[str, str]) -> Links:
        """Return where the images of a request are kept: its links lead to the host that the client called."""
        return _ProjectLinks(self, project, self._base(headers))

    def _base(self, headers: Mapping[str, str]) -> str:
        if self._public_url is not None:
            return self._public_url.rstrip("/")
        host = headers.get("host", "")
        return f"http://{host}" if _HOST.fullmatch(host) else ""

    async def keep(self, project: str, base: str, content: AsyncIterator[bytes]) -> str:
        """Keep an image and return its link."""
        name = await self._images.keep(project, content)
        return f"{base}{PATH}{name}?{self._signer.query(name, int(self._clock()) + GOOD_FOR)}"

    async def follow(self, name: str, query: Mapping[str, str], project: str | None) -> Outbound:
        """Return an image: by a signed query, or for the project that it belongs to.

        Forbidden if the link is not good, NotFound if there is no such image, or none that this project may see.
        """
        if SIGNATURE in query:
            self._signer.check(name, query, self._clock())
        elif project is None or not belongs_to(name, project):
            raise _not_found(name)
        image = await self._images.find(name) if is_name(name) else None
        if image is None:
            raise _not_found(name)
        cached = ("cache-control", f"private, max-age={GOOD_FOR}, immutable")
        return Outbound(image.status, [*image.headers, cached, *_SAFE], image.chunks)


class _ProjectLinks:
    """Implements `ports.Links`."""

    def __init__(self, linker: Linker, project: str, base: str) -> None:
        self._linker = linker
        self._project = project
        self._base = base

    async def keep(self, content: AsyncIterator[bytes]) -> str:
        """Keep an image and return its URL."""
        return await self._linker.keep(self._project, self._base, content)


def _not_found(name: str) -> NotFound:
    return NotFound(f"No image {name[:100]!r} is kept here; images are kept for a day.", param="id")
