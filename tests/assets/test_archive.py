"""Archive: what is kept beside answers, and what becomes of it where too much waits."""

from __future__ import annotations

import asyncio
import base64
import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.images import ImageStore
from gateway.domain.job import Operation
from gateway.domain.links import Signer
from gateway.domain.policy import ImageRules, JobType, Project
from gateway.images.answer_cache import AnswerCache
from gateway.images.archive import MOST_WAITING, Archives, RequestArchive
from gateway.images.linking import Linker
from gateway.observe.event import Event
from gateway.ports.provider import Converter
from gateway.request.exchange import Exchange
from gateway.tasks.flight import KeptRequest
from tests.builders import job, route
from tests.rig import archives_in

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)

PATIENT = 20.0


class Deaf:
    """An observer that keeps nothing."""

    def emit(self, event: Event) -> None:
        """Let it go."""


async def test_what_finds_too_much_waiting_is_let_go_of(tmp_path: Path) -> None:
    """A note that cannot be written in time is never begun, and nothing of it is left over."""
    archives = archives_in(tmp_path)
    may_end = asyncio.Event()
    for _ in range(MOST_WAITING):
        archives.spawn(_until(may_end))
    note = archives.note("req_1", {"project": "team"})
    assert not archives.begin(note)
    assert inspect.getcoroutinestate(note) == inspect.CORO_CLOSED
    may_end.set()
    await archives.aclose(30)
    assert await archives.noted("req_1") is None


async def image() -> AsyncIterator[bytes]:
    """One of an answer."""
    yield PNG


async def free() -> None:
    """Nothing is to be freed."""


class NeverKeeps(AnswerCache):
    """A cache whose storage does not answer."""

    async def keep(self, *_: object) -> None:
        """Wait for it."""
        await asyncio.Event().wait()


def keeping_one(blobs: BlobsOnDisk) -> Archives:
    """Archives that keep an image of `req_1`, whose cache is never done."""
    linker = Linker(ImageStore(blobs, dict), Signer(b"s" * 32))
    archives = Archives(linker, blobs, NeverKeeps(blobs, linker, Deaf()))
    exchange: Any = SimpleNamespace(links=None, cache_key="x", inbound=SimpleNamespace(request_id="req_1"))
    RequestArchive(archives, exchange, "team", cached=True).take([image], {"data": [{}]}, free)
    return archives


async def test_a_request_keeps_nothing_that_another_policy_gave_it(tmp_path: Path) -> None:
    """One that waited is decided anew: neither stored, nor linked, nor converted where policy says so no more."""
    blobs = BlobsOnDisk(tmp_path)
    linker, never_used = Linker(ImageStore(blobs, dict), Signer(b"s" * 32)), cast(Converter, object())
    archives = Archives(linker, blobs, AnswerCache(blobs, linker, Deaf()), never_used)
    exchange = Exchange(
        KeptRequest("req_1", Operation.GENERATE, None, {"host": "images.test"}, 0.0), job=job(links=True)
    )
    kind = JobType("draft", (route("main"),), cache=60.0)
    project = Project("team", ("draft",), "draft", images=ImageRules(convert=True))
    archives.equip(exchange, project, kind)
    assert None not in (exchange.archive, exchange.links, exchange.converter)
    exchange.job = job()
    archives.equip(exchange, replace(project, images=ImageRules()), replace(kind, cache=None))
    assert (exchange.archive, exchange.links, exchange.converter) == (None, None, None)


async def test_what_is_kept_is_noted_though_the_cache_is_not_done(tmp_path: Path) -> None:
    """Images take room, and the record of their request tells of them, whatever comes of the cache."""
    archives = keeping_one(BlobsOnDisk(tmp_path))
    await archives.aclose(0.2)
    noted = await archives.noted("req_1")
    assert noted is not None
    assert [each["bytes"] for each in noted["assets"]] == [len(PNG)]


class Hangs(BlobsOnDisk):
    """A storage that takes images, and no notes."""

    async def put(self, name: str | Callable[[], str], content: AsyncIterator[bytes], *, durable: bool = True) -> int:
        """Take what is named by its content alone."""
        if isinstance(name, str):
            await asyncio.Event().wait()
        return await super().put(name, content, durable=durable)


async def test_a_storage_that_hangs_holds_up_no_stop(tmp_path: Path) -> None:
    """What is cancelled at the end of its time is given a second more, not as long as a storage may take."""
    archives = keeping_one(Hangs(tmp_path))
    async with asyncio.timeout(PATIENT):
        await archives.aclose(0.2)
    assert await archives.noted("req_1") is None


async def _until(event: asyncio.Event) -> None:
    await event.wait()
