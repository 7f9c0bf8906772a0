"""Several workers behind one port: one set of books, one set of metrics, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

from gateway.ledger.embedded import embedded_store
from gateway.sandbox.client import Sandbox
from tests.cli.command import interruptible
from tests.e2e.accounting import NANO, Ask, billed, booked, crowd, nano, nothing_held, settled, upstream_id
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until

PATH = "/v1/images/generations"
BODY = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}


@pytest.fixture
def pair(tmp_path: Path, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with two workers and short leases."""
    with running_gateway(tmp_path, tight("500", timeout="60s"), sandbox, "--workers", "2", "--lease", "2") as stack:
        wait_until(lambda: _all_accept(stack), 30, "two workers that take connections")
        yield stack


def _all_accept(stack: Stack) -> bool:
    """Whether two workers each take some of a few connections, which end then."""
    with contextlib.ExitStack() as clients:
        for _ in range(8):
            clients.enter_context(socket.create_connection(("127.0.0.1", stack.port)))
        time.sleep(0.1)
        return [connections(process, stack.port) > 0 for process in workers(stack)] == [True, True]


def workers(stack: Stack) -> list[psutil.Process]:
    """The processes that serve the data plane: they hold its socket open but not the admin plane's."""
    children = psutil.Process(stack.process.pid).children()
    return [child for child in children if _role(child) == "data"]


def _role(process: psutil.Process) -> str:
    try:
        return process.environ().get("IMAGE_GATEWAY_INTERNAL_ROLE", "")
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


def connections(process: psutil.Process, port: int) -> int:
    """How many clients this process serves on the port now."""
    found = process.net_connections("tcp")
    return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr[1] == port for each in found)


async def test_two_workers_share_the_work_and_the_books(pair: Stack) -> None:
    """Both serve; the metrics of both together equal the ledger, which equals the bill."""
    pair.key()
    pair.sandbox.fault("slow", seconds=3, times=None)
    running = []
    for _ in range(6):  # those that come at one moment may all be taken by the one that runs then
        running.append(asyncio.create_task(crowd([Ask(BODY)] * 10, [pair], at_once=10)))
        await asyncio.sleep(0.1)
    await asyncio.to_thread(wait_until, lambda: len(pair.sandbox.requests()) == 60, 30, "sixty requests upstream")
    busy = [connections(process, pair.port) for process in workers(pair)]
    replies = [reply for group in running for reply in await group]
    assert [reply.status for reply in replies] == [200] * 60
    assert len(busy) == 2
    assert min(busy) > 0
    await asyncio.to_thread(settled, pair)
    total = booked(pair)
    assert (total.requests, total.images, total.unconfirmed) == (60, 60, 0)
    assert total.route == billed(pair.sandbox)
    assert round(pair.metric("spend_usd_total", view="route") * NANO) == total.route
    assert pair.metric("images_total") == pair.metric("requests_total", status="200") == 60
    assert pair.metric("in_flight") == 0
    assert round(pair.metric("budget_used_usd", scope="project:team") * 1e6) >= total.route // 1000


async def test_two_workers_keep_one_budget(tmp_path: Path, sandbox: Sandbox) -> None:
    """Whichever worker admits, together they spend no more than the budget."""
    with running_gateway(tmp_path, tight("0.10"), sandbox, "--workers", "2") as stack:
        replies = await crowd([Ask(BODY)] * 100, [stack], at_once=100)
        settled(stack)
        served = sum(reply.status == 200 for reply in replies)
        assert {reply.status for reply in replies} == {200, 402}
        assert booked(stack).images == served
        assert booked(stack).route == billed(sandbox) <= 100_000_000
        assert stack.metric("denied_total") == 100 - served


async def test_a_killed_worker_is_started_again_and_its_holds_end(pair: Stack) -> None:
    """SIGKILL of one worker: another takes its place, its holds are presumed spent, metrics and ledger still agree."""
    pair.key()
    assert pair.post(PATH, BODY).status == 200
    pair.sandbox.fault("slow", seconds=4, times=None)
    running = asyncio.create_task(crowd([Ask(BODY)], [pair], at_once=1))
    await asyncio.to_thread(wait_until, lambda: len(pair.sandbox.requests()) == 2, 30, "the request upstream")
    before = workers(pair)
    (victim,) = (process for process in before if connections(process, pair.port))
    request_id = upstream_id(pair.sandbox)
    victim.kill()
    with pytest.raises(aiohttp.ClientConnectionError):
        await running
    await asyncio.to_thread(
        wait_until, lambda: len(workers(pair)) == 2 and victim not in workers(pair), 30, "another worker"
    )
    await asyncio.to_thread(wait_until, lambda: nothing_held(pair), 30, "the end of the lease")
    record = pair.record(request_id)
    assert (record["state"], record["cost_source"]) == ("presumed", "presumed")
    pair.sandbox.reset()
    replies = await crowd([Ask(BODY)] * 10, [pair], at_once=10)
    assert [reply.status for reply in replies] == [200] * 10
    await asyncio.to_thread(wait_until, lambda: nothing_held(pair), 30, "settlements")
    total = booked(pair)
    assert (total.requests, total.images) == (12, 11)
    assert total.unconfirmed == nano(record["cost"]["route"])
    assert round(pair.metric("spend_usd_total", view="route") * NANO) == total.route
    assert pair.metric("unconfirmed_total") == 1
    assert pair.metric("in_flight") == 0


def test_what_the_policy_warns_of_at_the_start_is_logged_once(tmp_path: Path, sandbox: Sandbox) -> None:
    """However many processes read it, it is one line, in the format of all lines."""
    policy = tight("500").replace('limit: "500"', 'limit: "0"')
    with running_gateway(tmp_path, policy, sandbox, "--workers", "2") as stack:
        wait_until(lambda: stack.metric("policy_reloads_total", result="ok") == 3, 30, "three that read it")
        assert stack.stop() == 0
    lines = stack.log.read_text().splitlines()
    events = [json.loads(line)["event"] for line in lines if not line.startswith("image-gateway: policy ")]
    warnings = [event for event in events if "a budget of 0 refuses everything it covers" in event]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"policy warning: {stack.policy}/policy.yaml:")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
async def test_a_signal_ends_all_workers_once_their_work_is_done(pair: Stack, how: signal.Signals) -> None:
    """Running requests are answered and settled by every worker, the status is 0, and no process is left."""
    pair.key()
    family = psutil.Process(pair.process.pid).children(recursive=True)
    assert len(family) >= 3
    pair.sandbox.fault("slow", seconds=3, times=None)
    running = asyncio.create_task(crowd([Ask(BODY)] * 10, [pair], at_once=10))
    await asyncio.to_thread(wait_until, lambda: len(pair.sandbox.requests()) == 10, 30, "ten requests upstream")
    status = await asyncio.to_thread(pair.stop, how)
    assert [reply.status for reply in await running] == [200] * 10
    assert status == 0
    assert not [process for process in family if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def test_a_killed_supervisor_leaves_no_worker_behind(pair: Stack) -> None:
    """SIGKILL of the parent: its workers notice, stop, and free the port."""
    family = psutil.Process(pair.process.pid).children(recursive=True)
    pair.stop(signal.SIGKILL)
    _, left = psutil.wait_procs(family, timeout=30)
    assert not left
    with embedded_store(pair.data):
        pass  # whoever joins the store last stops it


async def test_ports_are_closed_while_work_ends(pair: Stack) -> None:
    """Whoever connects then is refused at once, and may ask the next server."""
    pair.sandbox.fault("slow", seconds=4, times=None)
    running = asyncio.create_task(crowd([Ask(BODY)], [pair], at_once=1))
    await asyncio.to_thread(wait_until, pair.sandbox.requests, 30, "a request upstream")
    pair.process.terminate()
    await asyncio.sleep(1.5)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", pair.port)
    assert [reply.status for reply in await running] == [200]
    assert await asyncio.to_thread(pair.process.wait, 30) == 0


def test_signals_of_log_rotation_end_nothing(pair: Stack) -> None:
    """SIGUSR1 and SIGUSR2 mean nothing to a gateway."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        pair.process.send_signal(number)
    assert pair.post(PATH, BODY).status == 200
    assert pair.process.poll() is None


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["term", "int"])
@pytest.mark.parametrize("group", [False, True], ids=["alone", "group"])
def test_a_signal_while_the_first_worker_starts(tmp_path: Path, how: signal.Signals, group: bool) -> None:
    """Before anything serves: all end, it is no failure, and nobody was told of a gateway that serves.

    Ctrl-C at a terminal, and some who stop a service, tell the whole group.
    """
    (tmp_path / "policy.yaml").write_text(tight("500"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        store = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        options = (
            "--store",
            store,
            "--data",
            str(tmp_path / "data"),
            "--port",
            "0",
            "--admin-port",
            "0",
            "--workers",
            "2",
        )
        with interruptible():
            process = subprocess.Popen(
                [sys.executable, "-m", "gateway", "serve", "--policy", str(tmp_path), *options],
                env={**os.environ, "SANDBOX_URL": "http://127.0.0.1:1", "SANDBOX_KEY": "sk-test"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        with silent.accept()[0]:
            family = psutil.Process(process.pid).children(recursive=True)
            (os.killpg if group else os.kill)(process.pid, how)
            told, complaints = process.communicate(timeout=60)
    assert len(family) == 1
    assert not family[0].is_running()
    assert (process.returncode, told) == (0, b""), complaints
    assert b"Traceback" not in complaints


def test_a_reload_that_the_admin_plane_is_asked_for_is_every_workers(pair: Stack) -> None:
    """Each data worker reads the policy again, as after SIGHUP, not the process alone that answered."""

    def loads() -> float:
        return pair.metric("policy_reloads_total", result="ok")

    wait_until(lambda: loads() == 3, what="three processes that read policy at their start")
    answer = fetch(f"http://127.0.0.1:{pair.admin_port}/admin/reload", method="POST")
    assert answer.status == 200, answer.body
    wait_until(lambda: loads() == 3 + 1 + 3, what="the one that answered, and each of them by the signal")
