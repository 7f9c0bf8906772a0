"""Spool: bytes come back as they were written, by any range, whatever pieces they came in and wherever they lie."""

from __future__ import annotations

import asyncio
import random

import pytest

from gateway import spool as spool_module
from gateway.spool import TOGETHER, Spool

SIZES = (0, 1, 7, 300, 16 * 1024 - 1, 16 * 1024, 70_000, 256 * 1024, 900_000)


async def part(spool: Spool, start: int, end: int) -> bytes:
    """A range, put together."""
    return b"".join([chunk async for chunk in spool.read(start, end)])


@pytest.mark.parametrize("without_waiting", [True, False], ids=["at hand", "by a thread"])
@pytest.mark.parametrize("in_memory", [0, 100_000, 10**9], ids=["on disk", "partly", "in memory"])
async def test_any_range_is_what_was_written(
    in_memory: int, without_waiting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces of all sizes, as bytes and as parts of larger ones, with reads in between that end nothing."""
    if not without_waiting:
        monkeypatch.setattr(spool_module, "_WITHOUT_WAITING", 0)
    chance, spool, written = random.Random(7), Spool(in_memory), bytearray()
    for number in range(60):
        whole = chance.randbytes(chance.choice(SIZES))
        piece = whole if number % 2 else memoryview(whole)[len(whole) // 3 :]
        spool.write(piece)
        written += piece
        if number % 3 == 0:
            await spool.drain()
        if number % 10 == 9:
            start, end = sorted(chance.randrange(len(written) + 1) for _ in range(2))
            assert await part(spool, start, end) == written[start:end]
        assert spool.size == len(written)
    assert await part(spool, 0, spool.size) == written
    assert bool(spool._file) == (in_memory < len(written))
    await spool.aclose()


async def test_thousands_of_pieces_are_written_in_one_go() -> None:
    """More pieces wait for the disk than the system takes in one call."""
    spool, large, small = Spool(0), bytes(range(256)) * 64, b"-"
    for _ in range(1500):
        spool.write(large)
        spool.write(small)
    await spool.drain()
    assert spool._file
    assert await part(spool, 0, spool.size) == (large + small) * 1500
    await spool.aclose()


async def test_what_is_written_during_a_drain_follows_it() -> None:
    """A piece that comes while others go to disk stands behind them."""
    spool = Spool(0)
    spool.write(b"a" * 100_000)
    draining = asyncio.create_task(spool.drain())
    await asyncio.sleep(0)
    spool.write(b"b" * 10)
    await draining
    assert await part(spool, 99_990, 100_010) == b"a" * 10 + b"b" * 10
    await spool.aclose()


async def test_all_together_take_a_bounded_memory() -> None:
    """Each may have a megabyte in memory, but not hundreds of them at once: those go to disk, and come back whole."""
    spools, before, most = [Spool(1_000_000) for _ in range(300)], Spool.held, 0
    for piece in range(9):
        for number, spool in enumerate(spools):
            spool.write(bytes([number % 256, piece]) * 50_000)
            await spool.drain()
            most = max(most, Spool.held)
    assert most <= TOGETHER + 300 * 64 * 1024
    assert sum(spool._file is not None for spool in spools) > 200
    for number, spool in enumerate(spools):
        assert await part(spool, 99_999, 100_001) == bytes([0, number % 256])
        assert await part(spool, 0, spool.size) == b"".join(bytes([number % 256, piece]) * 50_000 for piece in range(9))
        await spool.aclose()
        await spool.aclose()
    assert Spool.held == before


async def test_a_few_bytes_stay_in_memory_however_many_there_are() -> None:
    """What is short is not made to wait for a disk."""
    spools = [Spool(10**6) for _ in range(TOGETHER // 60_000 + 2)]
    for spool in spools:
        spool.write(bytes(60_000))
        await spool.drain()
    assert Spool.held > TOGETHER
    assert not any(spool._file for spool in spools)
    for spool in spools:
        await spool.aclose()


def test_one_that_outlives_its_module_is_given_back_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter that ends sets the names of modules to None before it frees the last objects."""
    before = Spool.held
    spool = Spool(1)
    spool.keep_beside(5)
    monkeypatch.setattr(spool_module, "Spool", None)
    del spool
    assert Spool.held == before
