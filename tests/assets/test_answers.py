"""Answers on disk: whole or not at all, byte for byte, for nobody else to read, and for a day."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import time
from pathlib import Path

import pytest

from gateway.assets.answers import ABANDONED, DAY, AnswersOnDisk
from gateway.assets.recording import BATCH
from gateway.ports import Headers, Outbound, Truncated

ID = "req_0123456789abcdef"
HEADERS: Headers = [("content-type", "application/json"), ("x-request-id", ID), ("X-Twice", "1"), ("X-Twice", "2")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where answers are kept; it does not exist yet."""
    return tmp_path / "assets" / "answers"


@pytest.fixture
def answers(folder: Path) -> AnswersOnDisk:
    """The answers under test."""
    return AnswersOnDisk(folder)


def names(folder: Path) -> list[str]:
    """The files there, by name."""
    return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


def modes(folder: Path) -> set[int]:
    """The permissions of the files there."""
    return {file.stat().st_mode & 0o777 for file in folder.iterdir()}


def descriptors() -> int:
    """How many descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def keep(answers: AnswersOnDisk, body: bytes, request_id: str = ID, piece: int = 50_000) -> None:
    """Record a whole answer."""
    recording = answers.record(request_id)
    for start in range(0, len(body), piece):
        await recording.write(body[start : start + piece])
    await recording.commit(200, HEADERS)
    await recording.discard()


async def content(outbound: Outbound | None) -> bytes:
    """The body of an answer that is there."""
    assert outbound is not None
    return b"".join([chunk async for chunk in outbound.chunks])


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, BATCH - 1, BATCH, BATCH + 1, 3 * BATCH + 17])
async def test_an_answer_comes_back_as_it_was(answers: AnswersOnDisk, size: int) -> None:
    """Status, headers in their order, repeated ones too, and every byte of the body; as often as it is asked for."""
    body = os.urandom(size)
    await keep(answers, body)
    for _ in range(2):
        found = await answers.find(ID)
        assert found is not None
        assert (found.status, list(found.headers)) == (200, list(HEADERS))
        assert await content(found) == body


async def test_nothing_is_found_before_it_is_whole(answers: AnswersOnDisk, folder: Path) -> None:
    """A recording under way, however large, is not an answer yet."""
    recording = answers.record(ID)
    assert await answers.find(ID) is None
    await recording.write(os.urandom(2 * BATCH))
    assert await answers.find(ID) is None
    await recording.commit(200, HEADERS)
    assert await answers.find(ID) is not None
    assert names(folder) == [f"{ID}.body", f"{ID}.json"]


async def test_what_is_let_go_of_leaves_nothing(answers: AnswersOnDisk, folder: Path) -> None:
    """A discarded recording takes its partial file with it, and cannot come back."""
    recording = answers.record(ID)
    await recording.write(os.urandom(2 * BATCH))
    await recording.discard()
    await recording.discard()
    await recording.write(b"more")
    await recording.commit(200, HEADERS)
    assert names(folder) == []
    assert await answers.find(ID) is None


async def test_a_small_answer_touches_no_disk_until_it_is_whole(answers: AnswersOnDisk, folder: Path) -> None:
    """What is thrown away in the end, as most answers are, costs nothing while it is small."""
    recording = answers.record(ID)
    await recording.write(os.urandom(BATCH - 1))
    assert names(folder) == []
    await recording.discard()
    assert names(folder) == []


async def test_a_committed_answer_stays(answers: AnswersOnDisk) -> None:
    """Letting go of it afterwards, or committing again, changes nothing."""
    recording = answers.record(ID)
    await recording.write(b"whole")
    await recording.commit(200, HEADERS)
    await recording.commit(500, [])
    await recording.discard()
    found = await answers.find(ID)
    assert found is not None
    assert (found.status, await content(found)) == (200, b"whole")


async def test_an_answer_can_be_replaced(answers: AnswersOnDisk) -> None:
    """The last one that was committed for a request counts."""
    await keep(answers, b"first, and longer")
    await keep(answers, b"second")
    assert await content(await answers.find(ID)) == b"second"


async def test_nobody_else_can_read_it(answers: AnswersOnDisk, folder: Path) -> None:
    """The folder is for the gateway's own user alone, and so is each file, whatever the umask."""
    before = os.umask(0)
    try:
        await keep(answers, os.urandom(2 * BATCH))
        recording = answers.record("req_other")
        await recording.write(os.urandom(BATCH))
        await recording.write(os.urandom(BATCH))
    finally:
        os.umask(before)
    assert len(names(folder)) == 3
    assert (modes(folder.parent), modes(folder)) == ({0o700}, {0o600})
    await recording.discard()


@pytest.mark.parametrize(
    "request_id", ["", "req_", "../req_1", "req_/../../x", "req_a.b", "req_a\n", "req_\u0661", "req_" + "a" * 97, "x"]
)
async def test_only_our_own_ids_become_names_of_files(answers: AnswersOnDisk, request_id: str, folder: Path) -> None:
    """Anything that could name another file is refused before a file is touched."""
    with pytest.raises(ValueError, match="not a request id"):
        answers.record(request_id)
    with pytest.raises(ValueError, match="not a request id"):
        await answers.find(request_id)
    assert names(folder) == []


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]",
        b"{}",
        b"null",
        b"\xff",
        json.dumps({"status": "200", "headers": [], "length": 4}).encode(),
        json.dumps({"status": 200, "headers": [["a"]], "length": 4}).encode(),
        json.dumps({"status": 200, "headers": [], "length": 5}).encode(),
    ],
)
async def test_a_damaged_head_is_no_answer(
    answers: AnswersOnDisk, folder: Path, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be read, or does not fit its body, is reported and counts as not kept."""
    await keep(answers, b"body")
    (folder / f"{ID}.json").write_bytes(head)
    assert await answers.find(ID) is None
    assert ID in caplog.text


async def test_a_body_that_lost_bytes_is_no_answer(answers: AnswersOnDisk, folder: Path) -> None:
    """A file that a power loss left short is never given for whole; nor is a head without a body."""
    await keep(answers, b"body" * 1000)
    os.truncate(folder / f"{ID}.body", 3999)
    assert await answers.find(ID) is None
    (folder / f"{ID}.body").unlink()
    assert await answers.find(ID) is None


async def test_a_body_that_goes_away_in_the_middle_is_broken_off(answers: AnswersOnDisk, folder: Path) -> None:
    """Whoever reads sees that it is not whole."""
    await keep(answers, os.urandom(3 * BATCH))
    found = await answers.find(ID)
    assert found is not None
    await anext(found.chunks)
    (folder / f"{ID}.body").unlink()
    with pytest.raises(Truncated):
        await anext(found.chunks)


async def test_a_disk_that_cannot_be_written_fails_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The recording is let go of with a log line; nothing is raised and nothing is found."""
    (tmp_path / "file").write_text("in the way")
    answers = AnswersOnDisk(tmp_path / "file" / "answers")
    await keep(answers, b"small")
    await keep(answers, os.urandom(4 * BATCH), "req_large")
    assert await answers.find(ID) is None
    assert await answers.find("req_large") is None
    assert f"the answer of {ID} is not kept" in caplog.text
    assert "the answer of req_large is not kept" in caplog.text


async def test_a_disk_that_is_full_half_way_leaves_nothing_behind(
    answers: AnswersOnDisk, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel refuses to let the file grow: what was written is taken back, and the request does not feel it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BATCH + 1000, hard))
    try:
        await keep(answers, os.urandom(4 * BATCH))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(folder) == []
    assert "is not kept" in caplog.text


async def test_a_recording_survives_being_interrupted(answers: AnswersOnDisk, folder: Path) -> None:
    """A write that is cancelled goes on by itself; letting go afterwards waits for it and leaves nothing."""
    recording = answers.record(ID)

    async def write() -> None:
        for _ in range(50):
            await recording.write(os.urandom(BATCH))

    task = asyncio.create_task(write())
    await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.wait({task})
    await recording.discard()
    assert names(folder) == []


async def test_a_crowd_needs_no_descriptors(answers: AnswersOnDisk) -> None:
    """Hundreds of replays at once, all under way, hold no file open between their reads."""
    body = os.urandom(200_000)
    await keep(answers, body)
    found = [await answers.find(ID) for _ in range(300)]
    starts = [await anext(outbound.chunks) for outbound in found if outbound is not None]
    assert descriptors() < 100
    rests = await asyncio.gather(*(content(outbound) for outbound in found))
    assert {start + rest for start, rest in zip(starts, rests, strict=True)} == {body}


async def test_after_a_day_it_is_gone(answers: AnswersOnDisk, folder: Path) -> None:
    """The sweep deletes an old answer and keeps what is younger; until then it is found, however old."""
    await keep(answers, b"old")
    await keep(answers, b"young", "req_young")
    old = time.time() - DAY - 1
    for suffix in ("body", "json"):
        os.utime(folder / f"{ID}.{suffix}", (old, old))
    assert await content(await answers.find(ID)) == b"old"
    assert answers.sweep(time.time()) == 2
    assert await answers.find(ID) is None
    assert names(folder) == ["req_young.body", "req_young.json"]
    assert await content(await answers.find("req_young")) == b"young"


async def test_a_partial_file_of_a_dead_gateway_is_swept(answers: AnswersOnDisk, folder: Path) -> None:
    """One that nobody has written for an hour goes; one that is being written stays."""
    abandoned, current = answers.record("req_dead"), answers.record("req_alive")
    for recording in (abandoned, current):
        await recording.write(os.urandom(BATCH))
        await recording.write(os.urandom(BATCH))
    old = time.time() - ABANDONED - 1
    [dead] = [name for name in names(folder) if name.startswith("req_dead-")]
    os.utime(folder / dead, (old, old))
    assert answers.sweep(time.time()) == 1
    assert [name.partition("-")[0] for name in names(folder)] == ["req_alive"]
    await current.commit(200, HEADERS)
    assert await answers.find("req_alive") is not None
    await abandoned.discard()


async def test_the_sweeper_sweeps_by_itself(answers: AnswersOnDisk, folder: Path) -> None:
    """It begins when it is started, survives a folder that cannot be read, and ends when it is cancelled."""
    await keep(answers, b"old")
    old = time.time() - DAY - 1
    for suffix in ("body", "json"):
        os.utime(folder / f"{ID}.{suffix}", (old, old))
    task = asyncio.create_task(answers.run())
    unreadable = asyncio.create_task(AnswersOnDisk(Path(__file__) / "answers").run())
    async with asyncio.timeout(20):
        while names(folder):  # noqa: ASYNC110 - what a thread does to the disk tells nobody
            await asyncio.sleep(0.01)
    for running in (task, unreadable):
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
