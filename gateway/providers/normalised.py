"""Normalised: answers of others put into the shape of the API that is served here, images from disk by range.

What came as a data URI or with its prefix becomes plain `b64_json`. A link on the provider's own origin is fetched
there; one elsewhere may die, so that it is fetched too, without credentials. What cannot be fetched stays a link, and
so do those beyond the most images that a request can ask for.
`created` and `output_format` are added where they are missing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final

import httpx

from gateway.domain.price import Charged
from gateway.domain.profile import Amount, Profile
from gateway.domain.settlement import Outcome, Reading
from gateway.ports.provider import Answer, Call, ProviderServices, UpstreamFailure
from gateway.providers.amounts import nano, told
from gateway.providers.collected import CollectedAnswer, Piece
from gateway.providers.content import Element
from gateway.providers.elide import ELIDED
from gateway.providers.endpoint import Endpoint
from gateway.providers.foreign_errors import moderated_body
from gateway.providers.linked_image import fetched, picture_at
from gateway.providers.part import Part, read_into
from gateway.spool import Spool

log = logging.getLogger("gateway.providers")

MOST: Final = 10
"""How many images of one answer are fetched: as many as one request can ask for."""
BLIND: Final = "blind"
"""The usage problem of a provider whose usage is no bill."""

_LONGEST_LINK: Final = 16 * 1024
_HEAD: Final = 256
"""Bytes of a string in which the head of a data URI lies, escapes included."""
_DATA_URI: Final = re.compile(rb"data:[^,]{0,200};base64,", re.IGNORECASE)
_WEB: Final = ("http://", "https://")
_KEPT: Final = ("background", "output_format", "quality", "size")


@dataclass(frozen=True, slots=True)
class _Image:
    """One image: its base64 by range, or its link; what is said of it; and where it can be fetched."""

    text: tuple[Spool, int, int] | None
    link: str
    about: Mapping[str, object]
    url: httpx.URL | None = None


@dataclass(frozen=True, slots=True)
class Normaliser:
    """Puts the answers of one provider into shape."""

    profile: Profile
    endpoint: Endpoint
    services: ProviderServices

    async def normalised(self, answer: Answer, call: Call, headers: Mapping[str, str]) -> CollectedAnswer:
        """Read an answer to its end and return it in shape; UpstreamFailure if it is none, or a refusal in a 200.

        `headers` are all of the answer's, names in lower case.
        """
        part = Part(call.job.n, headers=answer.headers, rate_limits=answer.rate_limits)
        part.upstream_request_id = answer.upstream_request_id
        try:
            content = await read_into(answer, part)
            part.reading = self._reading(part.reading, content.exact(), headers)
            items = content.elements()
            blocked = [item for _, item in items if item.get("respect_moderation") is False]
            found = [pair for pair in items if pair[1].get("respect_moderation") is not False]
            images = await self._images(found, part)
            if blocked and not images:
                raise _withheld(part.reading)
            part.withheld = len(blocked)
            return await self._whole(part, images, call)
        except BaseException:
            await part.aclose()
            raise

    def _reading(self, reading: Reading, document: object, headers: Mapping[str, str]) -> Reading:
        if self.profile.blind_usage:
            reading = replace(reading, usage=None, usage_problem=BLIND)
        amount = self.profile.reported
        return reading if amount is None else with_amount(reading, amount, document, headers)

    async def _images(self, found: Sequence[tuple[Element, Mapping[str, object]]], part: Part) -> list[_Image]:
        """Return the images in their order; those that must be fetched are, all at once, but no more than `MOST`."""
        images = [image for place, item in found if (image := await self._image(place, item, part)) is not None]
        linked = [number for number, image in enumerate(images) if image.url is not None]
        if len(linked) > MOST:
            log.warning("%d images of an answer stay links, for so many cannot be asked for", len(linked) - MOST)
        fetching = [self._linked(images[number], part) for number in linked[:MOST]]
        for number, image in zip(linked, await asyncio.gather(*fetching), strict=False):
            images[number] = image
        return images

    async def _image(self, place: Element, item: Mapping[str, object], part: Part) -> _Image | None:
        """Return an image as it is told; None for what is none."""
        prompt = item.get("revised_prompt")
        about = {"revised_prompt": prompt} if isinstance(prompt, str) and prompt != ELIDED.decode() else {}
        text = await _inline(place, part.spool)
        if text is not None:
            return _Image(text, "", about)
        link = await _written_at(place.link, part.spool) if place.link else ""
        url = self.endpoint.resolve(link) if link else None
        if url is not None:
            return _Image(None, str(url), about, url)
        if not link.lower().startswith(_WEB):
            return None
        log.warning("an image of an answer stays a link, for its host cannot be read")
        return _Image(None, link, about)

    async def _linked(self, image: _Image, part: Part) -> _Image:
        """Return an image that is told by link: fetched, unless that leads nowhere."""
        assert image.url is not None
        spool = await fetched(image.url, self.endpoint, self.services.fetcher)
        if spool is None:
            return image
        part.fetched.append(spool)
        return _Image((spool, 0, spool.size), "", image.about)

    async def _whole(self, part: Part, images: Sequence[_Image], call: Call) -> CollectedAnswer:
        reading = replace(part.reading, images=len(images))
        document = part.document
        head: dict[str, object] = {"created": _created(document.get("created"))}
        head |= {name: document[name] for name in _KEPT if isinstance(document.get(name), str)}
        first = next((image.text for image in images if image.text is not None), None)
        picture = await picture_at(*first) if first is not None else None
        if picture is not None:  # what came, whatever was asked for or is said of it
            head["output_format"] = picture.output_format
            reading = replace(reading, output_format=picture.output_format)
        if picture is not None and picture.size is not None and reading.size is None:
            reading = replace(reading, size=str(picture.size))
        pieces: list[Piece] = [_opened(head, "data", b"[")]
        for number, image in enumerate(images):
            pieces += [b",", *_written(image)] if number else _written(image)
        usage = b"" if reading.usage is None else b',"usage":' + json.dumps(document["usage"]).encode()
        pieces.append(b"]" + usage + b"}")
        part.reading = reading
        # The parts' own images are of no use to whoever passes the whole on by its pieces.
        part.images = [Element(0, 0)] * len(images)
        return CollectedAnswer([part], pieces, missing=max(call.job.n - len(images), 0))


def with_amount(reading: Reading, amount: Amount, document: object, headers: Mapping[str, str]) -> Reading:
    """Return the reading with what the answer says of its cost, or of units that the price row prices."""
    count = told(amount, document, headers)
    if count is None:
        return reading
    return replace(reading, units=count) if amount.usd is None else replace(reading, reported=nano(count, amount.usd))


def _withheld(reading: Reading) -> UpstreamFailure:
    """Return the failure of images that were made and then withheld, in a 200."""
    message = "The provider made an image and withheld it: its content moderation refused it."
    body = {"error": moderated_body(message, [], "output")}
    return UpstreamFailure(
        Outcome.REJECTED,
        "status_4xx",
        "the provider withheld what it made (moderation)",
        status=HTTPStatus.BAD_REQUEST,
        headers=[("content-type", "application/json")],
        body=json.dumps(body).encode(),
        pass_on=True,
        charged_for=Charged.MODERATED,
        reading=reading,
    )


async def _inline(place: Element, spool: Spool) -> tuple[Spool, int, int] | None:
    """Return where the base64 of an element lies, in `b64_json` or in a data URI; None if it has none."""
    if place.inline is not None:
        start, end = place.inline[1:]
        start += await _prefix(spool, start, end) or 0
        if start < end:
            return spool, start, end
    skipped = await _prefix(spool, *place.link) if place.link is not None else None
    if place.link is None or skipped is None or place.link[0] + skipped == place.link[1]:
        return None
    return spool, place.link[0] + skipped, place.link[1]


async def _written_at(place: tuple[int, int], spool: Spool) -> str:
    """Return a link as its string says it: one that is signed may be too long to be among the members."""
    start, end = place
    text = b"".join([chunk async for chunk in spool.read(start, min(end, start + _LONGEST_LINK))])
    try:
        return str(json.loads(b'"' + text + b'"'))
    except ValueError:
        return ""


async def _prefix(spool: Spool, start: int, end: int) -> int | None:
    """Return how long the head of the data URI is that a string begins with, as it is written; None if it has none."""
    head = b"".join([chunk async for chunk in spool.read(start, min(start + _HEAD, end))])
    match = _DATA_URI.match(head.replace(b"\\/", b"/"))
    if match is None:
        return None
    comma = head.index(b",")  # the first one, in the text as in the URI: an escaped comma is not written so
    return comma + 1


def _created(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else int(time.time())


def _opened(members: Mapping[str, object], name: str, opening: bytes) -> bytes:
    """Write an object that is still open, with one more member begun."""
    head = json.dumps(members, separators=(",", ":"))[:-1]
    return f'{head}{"," if members else ""}"{name}":'.encode() + opening


def _written(image: _Image) -> list[Piece]:
    if image.text is None:
        return [_opened(image.about, "url", json.dumps(image.link).encode() + b"}")]
    return [_opened(image.about, "b64_json", b'"'), image.text, b'"}']
