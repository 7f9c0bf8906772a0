"""A bucket that refuses, is slow, or goes away: told in words and in time, and nothing half is ever found."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.assets.answers_in_blobs import AnswersInBlobs
from gateway.assets.location import Bucket
from gateway.assets.s3 import BlobsInS3
from gateway.ports import Outbound
from gateway.ports.storage import AWAY, SLOW, Blob, StorageUnavailable
from tests.assets.conftest import Storage
from tests.assets.s3_server import CREDENTIALS, REGION, S3Server, running_s3

LARGE = bytes(range(256)) * 40_000


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


async def pieces(content: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    """The content in pieces."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def content_of(blob: Blob | None) -> bytes:
    """The bytes of a blob that is there."""
    assert blob is not None
    return b"".join([chunk async for chunk in blob.chunks(0, blob.length)])


async def test_the_server_checks_signatures(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what passes here is signed well; a wrong key is a storage that is away, and no secret is told."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another secret")
    blobs = BlobsInS3(s3_server.bucket())
    for refused in (blobs.put("a", pieces(b"x")), blobs.get("a"), blobs.delete("a")):
        with pytest.raises(StorageUnavailable) as caught:
            await refused
        assert caught.value.reason == AWAY
        assert "another secret" not in str(caught.value)


async def test_a_bucket_that_is_not_there_is_told(s3_server: S3Server) -> None:
    """A misspelt name keeps nothing, and finds nothing."""
    blobs = BlobsInS3(Bucket("nowhere", "", s3_server.endpoint, REGION))
    with pytest.raises(StorageUnavailable):
        await blobs.put("a", pieces(b"x"))
    assert await blobs.get("a") is None


async def test_a_server_that_is_killed_in_the_middle_leaves_nothing_half(tmp_path: Path) -> None:
    """The put fails within its time; once the server is back the blob is not there, and can be put."""
    with running_s3(tmp_path) as server:
        blobs = BlobsInS3(server.bucket(), put_seconds=5)

        async def killing() -> AsyncIterator[bytes]:
            async for piece in pieces(LARGE):
                yield piece
            asyncio.get_running_loop().call_later(0.002, server.kill)

        assert await blobs.put("images/0", pieces(LARGE)) == len(LARGE)
        killed = asyncio.create_task(blobs.put("images/1", killing()))
        await asyncio.wait({killed})
        assert isinstance(killed.exception(), StorageUnavailable | None)  # it may have been in time
        with pytest.raises(StorageUnavailable):
            await blobs.put("images/2", pieces(LARGE))
        server.start()
        for each in [each async for each in blobs.list("images")]:
            assert await content_of(await blobs.get(each.name)) == LARGE
        assert await blobs.put("images/again", pieces(LARGE)) == len(LARGE)
        assert await content_of(await blobs.get("images/again")) == LARGE


async def test_a_server_that_says_nothing_is_given_up() -> None:
    """Neither a put nor a question waits for ever."""

    over, ended = asyncio.Event(), list[asyncio.Task[None]]()

    async def hold(writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ended.append(asyncio.create_task(hold(writer)))

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        blobs = BlobsInS3(Bucket("pictures", "", f"http://127.0.0.1:{port}", REGION), put_seconds=0.5)
        with pytest.raises(StorageUnavailable) as caught:
            await blobs.put("a", pieces(b"x"))
        assert caught.value.reason in (SLOW, AWAY)
        over.set()
        await asyncio.gather(*ended)


async def test_old_ones_are_swept(s3_server: S3Server) -> None:
    """By the first part of their names."""
    blobs = BlobsInS3(s3_server.bucket("swept"), keep_for={"tasks": 3600.0})
    for name in ("tasks/old", "tasks/new", "other/old"):
        await blobs.put(name, pieces(b"x"))
    for name in ("swept/tasks/old", "swept/other/old"):
        s3_server.age(name, 7200)
    assert await blobs.sweep() == 1
    assert await blobs.get("tasks/old") is None
    assert await content_of(await blobs.get("tasks/new")) == await content_of(await blobs.get("other/old")) == b"x"


async def test_an_answer_is_found_by_whoever_shares_the_storage(storage: Storage) -> None:
    """Whole, with its headers, and not before it was committed; one that was let go of never."""
    body = LARGE[:700_000]
    answers, elsewhere = AnswersInBlobs(storage.blobs), AnswersInBlobs(storage.blobs)
    recording = answers.record("req_a")
    async for piece in pieces(body):
        await recording.write(piece)
    assert await elsewhere.find("req_a") is None
    await recording.commit(200, [("content-type", "application/json"), ("X-Twice", "1"), ("X-Twice", "2")])
    await recording.discard()
    found: Outbound | None = await elsewhere.find("req_a")
    assert found is not None
    assert (found.status, found.headers[1:]) == (200, [("X-Twice", "1"), ("X-Twice", "2")])
    assert b"".join([chunk async for chunk in found.chunks]) == body
    dropped = answers.record("req_b")
    await dropped.write(b"x")
    await dropped.discard()
    await dropped.commit(200, [])
    assert await elsewhere.find("req_b") is None
    with pytest.raises(ValueError, match="is not a request id"):
        await elsewhere.find("../x")


async def test_an_answer_that_cannot_be_kept_harms_nobody() -> None:
    """A storage that is away is logged; nothing is raised, and nothing is found."""
    answers = AnswersInBlobs(BlobsInS3(Bucket("pictures", "", "http://127.0.0.1:9", REGION)))
    recording = answers.record("req_a")
    await recording.write(b"x")
    await recording.commit(200, [])
    assert await answers.find("req_a") is None
