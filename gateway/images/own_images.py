"""Own images: links of the gateway's own among a request's input images, which are read where they are stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from gateway.domain.errors import InvalidRequest
from gateway.images.linking import PATH, Found, Linker, away
from gateway.ports import Body, InputImage, Inputs, Rendered
from gateway.ports.storage import StorageUnavailable

_OVERLAYS = ("mask", "markup")


def own_images(fields: Mapping[str, object], linker: Linker, project: str, base: str) -> dict[str, str]:
    """Return the names of stored images by the links to them that a JSON body holds; empty if it holds none.

    A good link is known by its signature, whatever host it names. One below `base`, the URL under which the gateway was
    reached, that is not good, not any more, or to another project's image is InvalidRequest, the same for all of these.
    """
    names: dict[str, str] = {}
    for param, url in _urls(fields):
        origin, found, _ = url.partition(PATH)
        if not found:
            continue
        name = linker.named(url, project)
        if name is not None:
            names[url] = name
        elif base and origin.lower() == base.lower():
            raise _no_image(param)
    return names


def _urls(fields: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield every URL of an input image, with where it stands."""
    images, urls = fields.get("images"), fields.get("image_urls")
    places = [(f"images[{at}]", each) for at, each in enumerate(images if isinstance(images, list) else ())]
    places += [(name, fields.get(name)) for name in _OVERLAYS]
    named = [(f"{param}.image_url", each.get("image_url")) for param, each in places if isinstance(each, dict)]
    named += [(f"image_urls[{at}]", each) for at, each in enumerate(urls if isinstance(urls, list) else ())]
    for param, url in named:
        if isinstance(url, str):
            yield param, url


@dataclass(frozen=True, slots=True)
class WithOwnImages:
    """Implements `ports.Body`: another body, of whose images those that are stored here have their bytes.

    `names` are theirs, by URL.
    """

    body: Body
    names: Mapping[str, str]
    linker: Linker

    @property
    def encoding(self) -> Literal["json", "multipart"]:
        """How the client sent it."""
        return self.body.encoding

    @property
    def fields(self) -> Mapping[str, object]:
        """Every top-level field, links as they came."""
        return self.body.fields

    @property
    def images(self) -> int:
        """How many input images it carries."""
        return self.body.images

    @property
    def mask(self) -> bool:
        """Whether a mask is among them."""
        return self.body.mask

    @property
    def fingerprint(self) -> str | None:
        """Hex SHA-256 of what the body says; None if it was not taken."""
        return self.body.fingerprint

    @property
    def likeness(self) -> None:
        """It is like no other: its images are its own."""

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Return the body with fields changed, links as they came."""
        return self.body.render(changes)

    async def inputs(self) -> Inputs:
        """Return the images; InvalidRequest for one that is not stored any more, Unavailable without the storage."""
        inputs = await self.body.inputs()
        images = tuple([await self._stored(image, f"images[{at}]") for at, image in enumerate(inputs.images)])
        mask = None if inputs.mask is None else await self._stored(inputs.mask, _OVERLAYS[0])
        markup = None if inputs.markup is None else await self._stored(inputs.markup, _OVERLAYS[1])
        return Inputs(images, mask, markup)

    async def _stored(self, image: InputImage, param: str) -> InputImage:
        name = None if image.url is None else self.names.get(image.url)
        if name is None:
            return image
        try:
            found = await self.linker.images.find(name)
        except StorageUnavailable as error:
            raise away(error) from error
        if found is None:
            raise _no_image(param)
        return replace(image, content=lambda: _content(found), length=found.blob.length, media_type=found.media_type)

    async def aclose(self) -> None:
        """Free what the body holds."""
        await self.body.aclose()


def _content(found: Found) -> AsyncIterator[bytes]:
    return found.blob.chunks(0, found.blob.length)


def _no_image(param: str) -> InvalidRequest:
    return InvalidRequest(f"{param} is no link to an image of this project that is stored here.", param=param)
