"""The parts of the suite that need nothing but the gateway itself, with little to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import uvloop

from benchmarks import ledger
from benchmarks.answers import SIZES, answer
from benchmarks.bench import Bench, Counting, counting_upstream
from benchmarks.client import closed_loop, once
from benchmarks.gateway import Gateway, Rules, gateway
from benchmarks.growth import add_entries, add_keys
from benchmarks.in_flight import stall_then_read
from benchmarks.machine import Cores, available, description, split
from benchmarks.open_loop import offer
from benchmarks.overload import cells, money
from benchmarks.processes import PeakMemory, free_port, started, wait_http
from benchmarks.servers import HEADS, verdict
from gateway.ledger.embedded import embedded_store


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Little to do, on whatever cores there are."""
    cores = tuple(available())
    return Bench(tmp_path_factory.mktemp("bench"), Cores(cores, cores), 1_000, quick=True)


@pytest.fixture(scope="module")
def upstream(bench: Bench) -> Iterator[Counting]:
    """The upstream that counts."""
    with counting_upstream(bench) as running:
        yield running


@pytest.fixture(scope="module")
def serving(bench: Bench, upstream: Counting) -> Iterator[Gateway]:
    """A gateway as the suite measures it, that takes on four requests at once."""
    rules = Rules({kind: upstream.url(kind) for kind in ("small", "huge", "edit", "small-300")}, routes=3)
    rules = replace(rules, upstreams={**rules.upstreams, "edit": upstream.url("small")}, others={"quiet": "[]"})
    options = ("--max-requests", "4", "--store-timeout", "1")
    with gateway(bench.home("gateway"), rules, cores=bench.cores.measured, options=options) as running:
        yield running


@pytest.mark.parametrize("kind", list(SIZES))
def test_canned_answers_have_the_size_they_say(kind: str) -> None:
    """What is told as 2.1 MB is, to a hundredth."""
    assert len(answer(kind)) == pytest.approx(SIZES[kind], rel=0.01)


def test_cores_are_parted_where_there_are_enough() -> None:
    """The measured program gets the first core, all others the rest; a single core is shared."""
    assert split([7]) == Cores((7,), (7,))
    assert not split([7]).apart
    parted = split([0, 1, 2, 3], 3)
    assert parted == (Cores((0, 1, 2), (3,)) if parted.apart else Cores((0, 1, 2, 3), (0, 1, 2, 3)))
    assert description()["cores"] == len(available())


def test_all_kinds_of_requests_get_through(serving: Gateway) -> None:
    """Small and large answers, uploads, and a second project are each answered 200, whole."""
    targets = {kind: serving.target(kind) for kind in ("small", "huge", "edit")}
    targets["quiet"] = serving.target("small", "quiet")
    answers = {kind: uvloop.run(once(target)) for kind, target in targets.items()}
    assert {kind: each.status for kind, each in answers.items()} == dict.fromkeys(targets, 200)
    assert answers["huge"].volume > len(answer("huge"))


def test_answers_in_flight_come_whole(serving: Gateway) -> None:
    """Clients that stop at the first byte and go on later get all of it."""
    with PeakMemory(serving.family) as watched:
        statuses, volume = uvloop.run(stall_then_read(serving.target("huge"), 3))
    assert statuses == {200: 3}
    assert volume > 3 * len(answer("huge"))
    assert watched.peak > 10_000_000


def test_what_is_offered_beyond_capacity_is_refused_and_never_booked(serving: Gateway, upstream: Counting) -> None:
    """Beyond its limit the gateway refuses, and what it booked is what upstream served."""
    before = serving.family.processor()
    offered = uvloop.run(offer(serving.target("small-300"), 60, 1.0))
    assert set(offered.statuses()) == {200, 503}
    assert cells(offered)[3] == "nothing"
    words, exact = money(serving, upstream)
    assert exact, words
    assert serving.family.processor() > before


def test_a_store_can_be_filled_beside_the_gateway(serving: Gateway) -> None:
    """Keys and requests on record are added to a store in use, and the gateway serves on."""
    uvloop.run(once(serving.target("small")))
    booked = serving.booked()[0]
    with embedded_store(serving.data) as url:
        uvloop.run(add_keys(url, 100))
        uvloop.run(add_entries(url, 50))
    assert serving.booked()[0] == booked + 50
    load = uvloop.run(closed_loop(serving.target("small"), 2, 0.3))
    assert load.answers
    assert not load.failed


def test_the_ledgers_table_is_made(bench: Bench) -> None:
    """A hold and its settlement are timed for each number of lines and way to write."""
    (shown,) = ledger.run(bench)
    assert [row[:2] for row in shown.rows] == [
        (lines, way) for way in ("always", "everysec") for lines in ("1", "5", "12")
    ]


def test_the_own_server_alone_refuses_every_head_of_the_comparison(bench: Bench) -> None:
    """It answers as it does in front of the gateway, and takes none of the heads that nobody should."""
    port, log = free_port(), bench.home("server") / "log"
    command = [sys.executable, "-m", "benchmarks.bare_server", str(port)]
    with started(command, cores=bench.cores.measured, log=log) as process:
        wait_http(f"http://127.0.0.1:{port}/", process, log)
        assert verdict(port, b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") == "200"
        verdicts = {name: verdict(port, head) for name, head in HEADS.items()}
    assert {said[0] for said in verdicts.values()} <= {"4", "c"}, verdicts  # 4xx, or closed while it was still sent
