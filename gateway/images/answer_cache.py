"""Answer cache: the very same request again, answered by the images that the first one brought, where policy has it so.

The same is: the same project and job type, the same fields once policy has filled in what it fills in, the same of them
left out for the provider, the same bytes of every input image, on the same model. An entry tells where the images lie,
so it is good for as long as they are.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date
from typing import Any, Final, NamedTuple

from gateway.base64_stream import encoded, encoded_length
from gateway.domain.errors import GatewayError
from gateway.domain.image_type import OUTPUT_FORMAT
from gateway.domain.links import mark_of
from gateway.domain.route import NOTHING, Quote
from gateway.images.linking import Found, KeptImage, Linker, ProjectLinks
from gateway.observe.event import CacheAsked, Observer
from gateway.ports import Body, InputImage, Outbound, Truncated
from gateway.ports.storage import Blobs, StorageUnavailable
from gateway.request.context import own_headers
from gateway.request.duplicates import Watched
from gateway.request.exchange import Admitted, Exchange
from gateway.request.repetition import digest
from gateway.routing.explanation import in_usd

log = logging.getLogger(__name__)

CACHE = "X-Gateway-Cache"
"""The header that says that an answer is made of an earlier one's images."""
_LONGEST_ENTRY = 1024 * 1024
_SHORTEST_LINK = 600.0
"""Seconds for which a link is good at least that an answer is made of."""
_DECIDED: Final = (
    "model",
    "n",
    "size",
    "quality",
    "background",
    "output_format",
    "resolution",
    "async",
    "callback_url",
    "response_format",
    "stream",
    "partial_images",
)
"""Fields that count as the decision has them, or only say how the answer is to come."""
_INPUTS: Final = ("images", "image_urls", "mask", "markup")
_FORMATS: Final = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp", "image/gif": "gif"}


class Hit(NamedTuple):
    """An answer made of earlier images, and what to remember of the request that it answers."""

    answer: Outbound
    note: Mapping[str, object]


class _Entry(NamedTuple):
    """An earlier answer. `converted` tells that its images were to be converted to the format that was asked for."""

    request_id: str
    document: Mapping[str, Any]
    images: Sequence[str]
    converted: bool


class AnswerCache:
    """Finds answers and keeps them."""

    def __init__(self, blobs: Blobs, linker: Linker, observer: Observer) -> None:
        self._blobs = blobs
        self._linker = linker
        self._observer = observer

    async def answer(self, admitted: Admitted, today: Callable[[], date]) -> Hit | None:
        """Return an earlier request's answer, and free the body; None where it must be made, as a stream always is.

        Either way the exchange knows then what its own answer will be found by. A request with a key of its own is
        answered by that key alone.
        """
        exchange = admitted.exchange
        if exchange.archive is None or admitted.job.stream or (said := await said_by(admitted.body)) is None:
            return None
        exchange.cache_key = said
        exchange.cache_fields = frozenset(name for name, value in admitted.body.fields.items() if value is not None)
        keyed = exchange.binding is not None and not exchange.binding.claim
        hit, result = None, "skipped"
        if not (exchange.wishes.fresh or keyed):
            try:
                hit = await self._hit(admitted, today)
                result = "hit" if hit is not None else "miss"
            except StorageUnavailable as error:
                log.warning("nobody can tell whether request %s was made before: %s", admitted.request_id, error)
                result = "failed"
        self._observer.emit(CacheAsked(admitted.job_type.name, result))
        if hit is not None:
            await admitted.body.aclose()
        return hit

    async def _hit(self, admitted: Admitted, today: Callable[[], date]) -> Hit | None:
        exchange, quote = admitted.exchange, admitted.ranked.quotes[0]
        entry = await self._find(_name(exchange, quote), admitted.job_type.cache or 0.0)
        if entry is None:
            return None
        found = [await self._linker.images.find(name) for name in entry.images]
        images = [image for image in found if image is not None]
        least = time.time() + (_SHORTEST_LINK if isinstance(exchange.links, ProjectLinks) else 0.0)
        if len(images) < len(found) or any(image.until < least for image in images):
            return None
        forms, wanted = [_FORMATS.get(image.media_type) for image in images], quote.job.wanted_format
        if exchange.converter is not None and not entry.converted and any(form != wanted for form in forms if wanted):
            return None  # made before policy had images converted
        exchange.cached, exchange.cost, exchange.quote, exchange.images = True, NOTHING, quote, len(images)
        pieces = self._pieces(exchange, entry, images)
        length = sum(len(piece) if isinstance(piece, bytes) else encoded_length(piece.blob.length) for piece in pieces)
        own = [("content-type", "application/json"), ("content-length", str(length)), (CACHE, "hit")]
        if forms[0] is not None and wanted not in (None, forms[0]):
            own.append((OUTPUT_FORMAT, forms[0]))

        def ended(taken: bool, sent: int) -> None:
            self._observer.emit(exchange.finished(200, client_gone=not taken, bytes_out=sent))

        headers = [*own, *own_headers(admitted, today, cost=0)]
        answer = Outbound(200, headers, Watched(_body(pieces), ended))
        told = [
            {"id": name, "bytes": each.blob.length, "type": each.media_type}
            for name, each in zip(entry.images, images, strict=True)
        ]
        record = _record(admitted, quote, entry, time.time())
        return Hit(answer, {"project": admitted.project.name, "record": record, "assets": told})

    async def _find(self, name: str, seconds: float) -> _Entry | None:
        blob = await self._blobs.get(name)
        if blob is None or blob.length > _LONGEST_ENTRY or blob.modified + seconds < time.time():
            return None
        try:
            told = json.loads(b"".join([chunk async for chunk in blob.chunks(0, blob.length)]))
            return _Entry(told["request_id"], told["document"], told["images"], bool(told.get("converted")))
        except (ValueError, KeyError, TypeError) as error:
            log.warning("the cache's entry %s cannot be read: %s", name, error)
            return None

    def _pieces(self, exchange: Exchange, entry: _Entry, images: Sequence[Found]) -> list[bytes | Found]:
        """Return the document, images as links or inline as the client asked for them."""
        links = exchange.links
        head = {name: value for name, value in entry.document.items() if name != "data"}
        if "output_format" in head and images[0].media_type in _FORMATS:
            head["output_format"] = _FORMATS[images[0].media_type]
        items = entry.document.get("data")
        abouts = [_about(each) for each in items] if isinstance(items, list) else []
        opening = json.dumps(head, separators=(",", ":"))[:-1]
        pieces: list[bytes | Found] = [f'{opening}{"," if head else ""}"data":['.encode()]
        for number, (name, image) in enumerate(zip(entry.images, images, strict=True)):
            about = abouts[number] if number < len(abouts) else {}
            start = ("," if number else "") + json.dumps(about, separators=(",", ":"))[:-1] + ("," if about else "")
            if isinstance(links, ProjectLinks):
                url = links.link_to(KeptImage(name, image.blob.length, image.media_type, image.until))
                pieces.append(f'{start}"url":{json.dumps(url)}}}'.encode())
            else:
                pieces += [f'{start}"b64_json":"'.encode(), image, b'"}']
        return [*pieces, b"]}"]

    async def keep(self, exchange: Exchange, document: Mapping[str, Any], kept: Sequence[KeptImage]) -> None:
        """Let an answer be found again, if it is all that was asked for; what cannot be kept is logged."""
        quote = exchange.quote
        if quote is None or len(kept) != quote.job.n or not document:
            return
        items = document.get("data")
        told = {**document, "data": [_about(each) for each in items] if isinstance(items, list) else []}
        entry = {
            "request_id": exchange.inbound.request_id,
            "document": told,
            "images": [each.name for each in kept],
            "converted": exchange.converter is not None,
        }
        try:
            await self._blobs.put(_name(exchange, quote), _once(json.dumps(entry).encode()), durable=False)
        except StorageUnavailable as error:
            log.warning("the answer of %s is not found again: %s", exchange.inbound.request_id, error)


async def said_by(body: Body) -> str | None:
    """Return a digest of what a body says but for what the decision says; None if nobody can tell when it is the same.

    Nobody can of an image that is named by URL: what lies there may change.
    """
    hashed = hashlib.sha256(body.encoding.encode())
    if body.encoding == "multipart":
        rendered = body.render(dict.fromkeys(_DECIDED))
        boundary = rendered.content_type.rpartition("boundary=")[2].strip('"').encode()
        try:
            async for chunk in rendered.chunks():
                hashed.update(chunk.replace(boundary, b""))
        finally:
            await rendered.aclose()
        return hashed.hexdigest()
    left = {
        name: value
        for name, value in body.fields.items()
        if name not in _DECIDED and name not in _INPUTS and value is not None
    }
    hashed.update(json.dumps(left, sort_keys=True).encode())
    if body.images or body.mask:
        try:
            inputs = await body.inputs()
        except GatewayError:
            return None  # whoever is to make it will say what is wrong with them
        for role, image in [*(("image", each) for each in inputs.images), ("mask", inputs.mask), ("up", inputs.markup)]:
            if image is not None and not await _hash(hashed, role, image):
                return None
    return hashed.hexdigest()


async def _hash(hashed: Any, role: str, image: InputImage) -> bool:
    """Take in an image; False for one that nobody here can tell from another."""
    if image.url is not None or image.content is None:
        hashed.update(f"|{role}:{image.file_id}".encode())
        return image.file_id is not None
    own = hashlib.sha256()
    async for chunk in image.content():
        own.update(chunk)
    hashed.update(f"|{role}:{own.hexdigest()}".encode())
    return True


def _name(exchange: Exchange, quote: Quote) -> str:
    """The name of the entry for a request as it would be, or was, done by a quote."""
    caller, job_type, job = exchange.caller, exchange.job_type, quote.job
    assert caller is not None
    assert job_type is not None
    size = f"{job.size} of any ratio" if job.any_ratio else job.size
    made = (size, job.quality, job.background, job.output_format, str(job.n), str(job.operation))
    sent = exchange.cache_fields.difference(_DECIDED)
    left_out = sorted(name for name in sent if name in quote.changes and quote.changes[name] is None)
    key = digest(caller.project, job_type.name, exchange.cache_key, quote.route.model.name, *made, *left_out)
    return f"cache/{mark_of(caller.project)}/{key}"


def _about(item: Any) -> dict[str, Any]:
    """What an answer says of an image besides its content."""
    prompt = item.get("revised_prompt") if isinstance(item, dict) else None
    return {"revised_prompt": prompt} if isinstance(prompt, str) else {}


def _record(admitted: Admitted, quote: Quote, entry: _Entry, now: float) -> dict[str, object]:
    """What `GET /v1/requests/{id}` tells of a request that was answered so."""
    nothing, about = in_usd(NOTHING), dict(admitted.about())  # which requests that are alike share
    return {
        "id": admitted.request_id,
        "object": "gateway.request",
        "created": int(now),
        "project": about.pop("project"),
        "key": about.pop("key"),
        "job_type": about.pop("job_type"),
        "operation": about.pop("operation"),
        "tags": about.pop("tags", {}),
        "state": "cached",
        "unconfirmed": False,
        "route": None,
        "model": quote.route.model.name,
        "images": len(entry.images),
        "cost_estimate": nothing,
        "cost": nothing,
        "cost_source": "cache",
        "usage": None,
        "attempts": [],
        "passed_over": about.pop("passed_over", []),
        "experiment": None,
        "request": about,
        "cache": {"of": entry.request_id},
    }


async def _body(pieces: Sequence[bytes | Found]) -> AsyncIterator[bytes]:
    try:
        for piece in pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            async for text in encoded(piece.blob.chunks(0, piece.blob.length)):
                yield text
    except StorageUnavailable as error:
        log.warning("an image of an earlier answer cannot be read on: %s", error)
        raise Truncated from error


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
