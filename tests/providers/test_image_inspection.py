"""Images taken off an answer on its way: all of them, whole, and never at the cost of the answer."""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import json
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.domain.job import Operation
from gateway.domain.settlement import Outcome, Reading
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.ports.whole import WholeAnswer
from gateway.providers.image_inspection import MOST_WAITING, inspected
from gateway.providers.reading import EventReader
from tests.builders import job, route
from tests.e2e.clients import picture
from tests.rig import Painted
from tests.steps.test_classify import FieldsOnly

PNG, JPEG = picture(), picture(kind="JPEG")


@dataclass
class Taken:
    """An archive of the images themselves: what the real one would put in a storage."""

    images: list[bytes] = field(default_factory=list)
    document: Mapping[str, object] = field(default_factory=dict)
    reasons: list[tuple[str, int]] = field(default_factory=list)
    work: list[asyncio.Task[None]] = field(default_factory=list)

    def take(
        self,
        images: Sequence[Callable[[], AsyncIterator[bytes]]],
        document: Mapping[str, object],
        free: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Read them all."""
        self.document = document
        self.work.append(asyncio.create_task(self._read(images, free)))

    async def _read(
        self, images: Sequence[Callable[[], AsyncIterator[bytes]]], free: Callable[[], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            for image in images:
                self.images.append(b"".join([piece async for piece in image()]))
        finally:
            await free()

    def lost(self, reason: str, images: int) -> None:
        """Remember why."""
        self.reasons.append((reason, images))


class Chopped(Painted):
    """An answer that comes in pieces of one size."""

    size: int = 1

    async def chunks(self) -> AsyncIterator[bytes]:
        """Pieces of the body."""
        for start in range(0, len(self.body), self.size):
            yield self.body[start : start + self.size]
        if self.broken is not None:
            raise self.broken


def chopped(body: bytes, size: int, **about: Any) -> Chopped:
    """The answer."""
    answer = Chopped(body, **about)
    answer.size = size
    return answer


def call(archive: Taken | None = None, **asked: Any) -> Call:
    """A call whose images are kept."""
    return Call("req_a", route("main"), job(**asked), FieldsOnly({}), archive=archive)


def document(*images: bytes, **more: object) -> bytes:
    """An answer of images, escaped as some encoders do."""
    data = [{"b64_json": base64.b64encode(image).decode(), "revised_prompt": 'a "cat"'} for image in images]
    return json.dumps({"created": 1, "data": data, **more}).replace("/", "\\/").encode()


def event(kind: str, image: bytes) -> bytes:
    """An event of a stream."""
    said = {"type": f"image_generation.{kind}", "b64_json": base64.b64encode(image).decode(), "usage": {"a": {"b": 1}}}
    return f"event: {said['type']}\r\ndata: {json.dumps(said)}\r\n\r\n".encode()


async def passed(answer: Answer, taken: Taken, **asked: Any) -> bytes:
    """What comes through, once what was taken off is there."""
    watched = inspected(answer, call(taken, **asked))
    body = b"".join([chunk async for chunk in watched.chunks()])
    await watched.aclose()
    await asyncio.gather(*taken.work)
    return body


@pytest.mark.parametrize("size", [1, 7, 4096, 10**7])
async def test_images_of_a_document_are_taken_whole(size: int) -> None:
    """However it is cut and escaped; the client gets what came, byte for byte."""
    body, taken = (
        document(PNG, JPEG, bytes(300_000), usage={"total_tokens": 3}) if size > 10 else document(PNG),
        Taken(),
    )
    assert await passed(chopped(body, size), taken) == body
    assert taken.images == ([PNG, JPEG, bytes(300_000)] if size > 10 else [PNG])
    assert taken.document["created"] == 1
    assert not taken.reasons


@pytest.mark.parametrize("size", [1, 7, 4096, 10**7])
async def test_whole_images_of_a_stream_are_taken(size: int) -> None:
    """Its partial ones are not, nor what comments and other lines say."""
    body = b": hello\n\n" + event("partial_image", JPEG) + event("completed", PNG) + event("completed", JPEG)
    body, taken = body + b"data: [DONE]\n\n", Taken()
    assert await passed(chopped(body, size, event_stream=True), taken) == body
    assert taken.images == [PNG, JPEG]


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "carriage returns": lambda event: event.replace(b"\r\n", b"\r"),
    "line feeds": lambda event: event.replace(b"\r\n", b"\n"),
    "lines": lambda event: event.replace(b", ", b",\r\ndata:   ").replace(b'"b64_json": ', b'"b64_json":\r\ndata: '),
    "lines between": lambda event: event.replace(b", ", b",\r\nid: 7\r\n:\r\ndata:"),
    "its name alone": lambda event: event.replace(b'"type"', b'"kind"'),
    "its name behind": lambda event: (
        b"data"
        + event.partition(b"data")[2].replace(b'"type"', b'"kind"').removesuffix(b"\r\n")
        + event.partition(b"data")[0]
        + b"\r\n"
    ),
    "no empty line": lambda event: event.removesuffix(b"\r\n"),
    "no line end": lambda event: event.rstrip(b"\r\n"),
}


@pytest.mark.parametrize("size", [1, 7, 4096])
@pytest.mark.parametrize("form", FORMS)
async def test_images_are_taken_in_each_form_that_events_have(form: str, size: int) -> None:
    """Those in which they are read and booked: the last one of a stream may lack its end."""
    written, taken, end = FORMS[form], Taken(), b"" if form.startswith("no ") else b"data: [DONE]\r\n\r\n"
    first = event("completed", PNG) if form.startswith("no ") else written(event("completed", PNG))
    body = b": hello\r\n\r\n" + event("partial_image", JPEG) + first + written(event("completed", JPEG)) + end
    reader = EventReader(2)
    reader.feed(body)
    reader.end(framed=True)
    assert reader.reading().images == 2
    assert await passed(chopped(body, size, event_stream=True, images=2), taken, n=2) == body
    assert (taken.images, taken.reasons) == ([PNG, JPEG], [])


@pytest.mark.parametrize("stream", [False, True])
async def test_an_image_that_came_and_is_not_found_is_counted(*, stream: bool) -> None:
    """Whoever keeps images must know of each that is missing; no more of them than were asked for."""
    body, taken = event("completed", PNG) if stream else document(PNG), Taken()
    assert await passed(chopped(body, 4096, event_stream=stream, images=5), taken, n=3) == body
    assert (taken.images, taken.reasons) == ([PNG], [("unread", 2)])
    taken = Taken()
    await passed(chopped(body, 4096, event_stream=stream, images=5), taken, n=3, operation=Operation.RESPOND)
    assert not taken.reasons


async def test_an_image_that_an_event_names_by_link_alone_is_counted() -> None:
    """Events pass as they come: what their links lead to is not fetched, so that it is not kept either."""
    link = b'data: {"type": "image_generation.completed", "b64_json": null, "url": "https://x.example/a"}\n\n'
    body, taken = event("completed", PNG) + link, Taken()
    assert await passed(chopped(body, 7, event_stream=True, images=2), taken, n=2) == body
    assert (taken.images, taken.reasons) == ([PNG], [("unread", 1)])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data": 1}', b'{"data": [{"url": "https://x.example/a"}]}'])
async def test_what_has_no_images_gives_none(body: bytes) -> None:
    """Whatever it is."""
    taken = Taken()
    assert await passed(chopped(body, 3), taken) == body
    assert not taken.images


async def test_an_answer_that_breaks_off_gives_nothing() -> None:
    """Not even the images that were whole: the answer is none."""
    taken = Taken()
    broken = UpstreamFailure(Outcome.UNKNOWN, "reset", "gone")
    watched = inspected(chopped(document(PNG), 100, broken=broken), call(taken))
    with pytest.raises(UpstreamFailure):
        _ = [chunk async for chunk in watched.chunks()]
    await watched.aclose()
    assert not taken.work


async def test_what_is_no_base64_is_an_error_of_its_image_alone() -> None:
    """Whoever keeps it is told, the client gets what came."""
    taken, body = Taken(), b'{"data": [{"b64_json": "!!!!"}]}'
    watched = inspected(chopped(body, 9), call(taken))
    assert b"".join([chunk async for chunk in watched.chunks()]) == body
    with pytest.raises(ValueError, match=r"[Bb]ase64|[Nn]on-base64"):
        await taken.work[0]


async def test_a_disk_that_stays_behind_costs_the_images_alone() -> None:
    """The answer waits for it for a second and goes on without."""
    release, loop = threading.Event(), asyncio.get_running_loop()
    with concurrent.futures.ThreadPoolExecutor(1) as only:
        loop.set_default_executor(only)
        only.submit(release.wait)  # the one thread that could write is busy
        try:
            taken, body = Taken(), document(bytes(8 * MOST_WAITING))
            watched = inspected(chopped(body, 65_536), call(taken, n=2))
            assert b"".join([chunk async for chunk in watched.chunks()]) == body
            assert taken.reasons == [("behind", 2)]
        finally:
            release.set()
        await asyncio.gather(*taken.work)
        assert not taken.images


FORMATS = pytest.mark.parametrize(
    ("image", "asked", "said"),
    [
        (PNG, None, None),
        (JPEG, None, "jpeg"),
        (JPEG, "jpeg", None),
        (PNG, "jpeg", "png"),
        (JPEG, "jpg", None),
        (JPEG, "JPEG", None),
        (JPEG, "auto", None),
        (b"whatever it is", None, None),
    ],
)


@FORMATS
async def test_another_format_than_was_asked_for_is_said(image: bytes, asked: str | None, said: str | None) -> None:
    """By the first image's bytes, before it is all there; an unknown one is not guessed at."""
    watched = inspected(chopped(document(image + bytes(200_000)), 1000), call(output_format=asked))
    chunks = watched.chunks()
    await anext(chunks)
    assert dict(watched.headers).get("X-Gateway-Output-Format") == said
    assert [chunk async for chunk in chunks]
    assert dict(watched.headers).get("X-Gateway-Output-Format") == said


def whole(body: bytes) -> WholeAnswer:
    """An answer that is here as a whole."""
    return WholeAnswer(200, (), body, Reading(complete=True), rate_limits={})


@FORMATS
async def test_the_format_of_an_answer_that_is_here_at_once(image: bytes, asked: str | None, said: str | None) -> None:
    """It is told as that of any other, and remembered for no other image."""
    for _ in range(2):
        watched = inspected(whole(document(image)), call(output_format=asked))
        assert watched.at_once() == document(image)
        assert dict(watched.headers).get("X-Gateway-Output-Format") == said


async def test_images_that_are_here_at_once_are_taken() -> None:
    """What is to be kept goes by in chunks, however it came."""
    taken = Taken()
    assert inspected(whole(document(PNG)), call(taken)).at_once() is None
    assert await passed(whole(document(PNG)), taken) == document(PNG)
    assert taken.images == [PNG]
