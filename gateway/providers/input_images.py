"""Input images: what came with a request, as the bytes or the URL that a provider takes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.image_type import NEEDED, PHOTOS, type_of
from gateway.ports import InputImage, Inputs
from gateway.ports.egress import Unfetchable
from gateway.ports.provider import Call, ProviderServices
from gateway.ports.storage import StorageUnavailable
from gateway.providers.unsupported import unsupported
from gateway.spool import Spool

MAX_BYTES = 50 * 1024 * 1024
"""Of one image, as the vendor of the API takes it."""
FETCH_SECONDS = 60.0
_IN_MEMORY = 256 * 1024


@dataclass(slots=True)
class InputImages:
    """Gives the input images of one call in another form; what it fetched lies in spools until `aclose`."""

    call: Call
    services: ProviderServices
    _spools: list[Spool] = field(default_factory=list)
    _inputs: Inputs | None = None

    async def every(self) -> Inputs:
        """Return what came with the request; UpstreamFailure if an image of it is none."""
        if self._inputs is None:
            try:
                self._inputs = await self.call.body.inputs()
            except GatewayError as error:
                raise unsupported(error.message) from error
        return self._inputs

    async def mask(self) -> InputImage | None:
        """Return the mask, if there is one; UpstreamFailure for a markup in its place, which would be left out."""
        every = await self.every()
        if every.markup is not None:
            raise unsupported("this route takes no markup; send a mask, or an image with the markup in it")
        return every.mask

    async def url(self, image: InputImage) -> str:
        """Return a URL under which a provider finds the image: the client's own, or one of the gateway's."""
        if image.url is not None:
            return image.url
        if self.call.uploads is None:
            raise unsupported(
                "this route takes input images by http(s) URL alone, and the gateway has no address that a provider "
                "could fetch an upload from (it is given by --public-url); send URLs"
            )
        try:
            return await self.call.uploads.keep(content_of(image)())
        except (StorageUnavailable, ValueError) as error:
            raise unsupported("an input image cannot be kept for the provider to fetch") from error

    async def here(self, image: InputImage) -> InputImage:
        """Return the image with its bytes: one that was named by URL is fetched, unless they are here anyhow."""
        if image.url is None or image.content is not None:
            content_of(image)
            return image
        if self.services.client_fetcher is None:
            raise unsupported("this route takes no input images by URL; upload them")
        spool = Spool(_IN_MEMORY)
        self._spools.append(spool)
        try:
            answer = await self.services.client_fetcher.get(image.url, seconds=FETCH_SECONDS, limit=MAX_BYTES)
            try:
                if not 200 <= answer.status < 300:  # noqa: PLR2004 - success, as HTTP has it
                    raise unsupported(f"an input image cannot be fetched: its server answered {answer.status}")
                start = await _fill(spool, answer.chunks())
            finally:
                await answer.aclose()
        except Unfetchable as error:
            raise unsupported(f"an input image cannot be fetched: {error.message}") from error
        except Unavailable as error:
            raise unsupported(error.message) from error
        media_type = type_of(start)
        if media_type not in PHOTOS:
            raise unsupported("what an input image's URL leads to is no image")
        size = spool.size
        return InputImage(content=lambda: spool.read(0, size), length=size, media_type=media_type)

    async def aclose(self) -> None:
        """Free what was fetched."""
        for spool in self._spools:
            await spool.aclose()


async def _fill(spool: Spool, chunks: AsyncIterator[bytes]) -> bytes:
    """Spool what comes, and return its first bytes."""
    start = b""
    async for chunk in chunks:
        if len(start) < NEEDED:
            start += chunk[:NEEDED]
        spool.write(chunk)
        await spool.drain()
    return start


def content_of(image: InputImage) -> Callable[[], AsyncIterator[bytes]]:
    """Return what yields the bytes of an image that is here; UpstreamFailure for one that only its vendor knows."""
    if image.content is None:
        raise unsupported("this route takes no file ids; send the image itself")
    return image.content
