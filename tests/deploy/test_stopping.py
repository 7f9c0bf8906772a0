"""How a gateway leaves: not ready first and serving still, then closed; and what it tells its service manager."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.ledger.servers import server_pid

PATH = "/v1/images/generations"
BODY = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider."""
    with running_sandbox() as running:
        yield running


def readiness(stack: Stack) -> int:
    """What the readiness check answers."""
    return fetch(f"http://127.0.0.1:{stack.port}/readyz").status


def test_it_serves_on_while_it_leaves(tmp_path: Path, sandbox: Sandbox) -> None:
    """After SIGTERM it is not ready, serves all the same, and asks clients to connect anew; asked twice it ends."""
    with running_gateway(tmp_path, tight("10"), sandbox, "--shutdown-delay", "600") as stack:
        headers = {"authorization": f"Bearer {stack.key()}", "content-type": "application/json"}
        client = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)

        def asked() -> tuple[int, str | None]:
            client.request("POST", PATH, json.dumps(BODY), headers)
            answer = client.getresponse()
            answer.read()
            return answer.status, answer.getheader("connection")

        assert asked() == (200, None)
        stack.process.send_signal(signal.SIGTERM)
        wait_until(lambda: readiness(stack) == 503, 30, "unreadiness")
        assert fetch(f"http://127.0.0.1:{stack.port}/healthz").status == 200
        assert fetch(f"http://127.0.0.1:{stack.admin_port}/readyz").error["reasons"] == ["shutting down"]
        assert asked() == (200, "close")
        client.close()
        assert stack.stop() == 0
    assert stack.log.read_text().count("rror") == 0


def _catches(process: psutil.Process, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal by now (proc(5), SigCgt)."""
    found = re.search(r"^SigCgt:\s*(\w+)", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (number - 1) & 1)


def test_workers_leave_once_however_often_a_signal_reaches_them(tmp_path: Path, sandbox: Sandbox) -> None:
    """A signal to the whole group counts once; whoever asks again, or has policy read meanwhile, ends them cleanly."""
    options = ("--shutdown-delay", "600", "--workers", "2")
    with running_gateway(tmp_path, tight("10"), sandbox, *options) as stack:
        supervisor = psutil.Process(stack.process.pid)
        workers = [each for each in supervisor.children() if "valkey" not in each.name()]
        assert len(workers) == 3
        wait_until(lambda: all(_catches(each, signal.SIGTERM) for each in workers), 30, "workers that have started")
        for each in (supervisor, *workers):
            each.send_signal(signal.SIGTERM)
        wait_until(lambda: readiness(stack) == 503, 30, "unreadiness")
        for each in workers:
            each.send_signal(signal.SIGTERM)
        supervisor.send_signal(signal.SIGHUP)
        time.sleep(0.3)  # in which one that left at once would be gone
        assert fetch(f"http://127.0.0.1:{stack.port}/healthz").status == 200
        began = time.monotonic()
        assert stack.stop() == 0
        assert time.monotonic() - began < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_asks_again_and_again_cuts_nothing_short(
    tmp_path: Path, sandbox: Sandbox, number: signal.Signals
) -> None:
    """Also while it stops its embedded store, of which nothing is left."""
    with running_gateway(tmp_path, tight("10"), sandbox) as stack:
        assert server_pid(stack.data)
        stack.process.send_signal(signal.SIGTERM)
        while stack.process.poll() is None:
            stack.process.send_signal(number)
            time.sleep(0.02)
        assert stack.process.wait() == 0
        assert server_pid(stack.data) is None


def test_what_outlasts_the_grace_is_told_so_and_booked(tmp_path: Path, sandbox: Sandbox) -> None:
    """A request that is still under way when the grace is over gets an error in words, and is presumed spent."""
    sandbox.fault("slow", seconds=300)
    before = len(sandbox.requests())  # of the tests before
    with (
        running_gateway(tmp_path, tight("10", timeout="600s"), sandbox, "--grace", "1") as stack,
        ThreadPoolExecutor(1) as client,
    ):
        stack.key()
        asked = client.submit(stack.post, PATH, BODY)
        wait_until(lambda: len(sandbox.requests()) > before, 30, "the call")
        assert stack.stop() == 0
        assert (asked.result().status, asked.result().error["code"]) == (503, "shutting_down")
        (row,) = stack.spend("--by", "project")
        assert row["unconfirmed_usd"] == row["route_usd"] != "0"


def test_an_upload_that_outlasts_the_grace_is_told_so(tmp_path: Path, sandbox: Sandbox) -> None:
    """Whoever has sent only some of a body when the grace is over gets an error in words, and costs nothing."""
    with running_gateway(tmp_path, tight("10"), sandbox, "--grace", "1") as stack:
        head = f"POST {PATH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {stack.key()}\r\nExpect: 100-continue\r\n"
        with socket.create_connection(("127.0.0.1", stack.port), timeout=60) as sock:
            sock.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n".encode())
            assert sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
            sock.sendall(b'{"prompt": "' + b"x" * 20_000)
            stack.process.send_signal(signal.SIGTERM)
            answer = http.client.HTTPResponse(sock)
            answer.begin()
            assert (answer.status, json.loads(answer.read())["error"]["code"]) == (503, "shutting_down")
        assert stack.stop() == 0


def test_a_service_manager_is_told_when_it_serves(tmp_path: Path, sandbox: Sandbox) -> None:
    """Workers too: READY=1 arrives at the socket that the environment names, once requests are served."""
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(60)
        environ = {"NOTIFY_SOCKET": str(address)}
        with running_gateway(tmp_path, tight("10"), sandbox, "--workers", "2", environ=environ) as stack:
            assert [manager.recv(100) for _ in range(2)] == [b"READY=1"] * 2
            assert readiness(stack) == 200
