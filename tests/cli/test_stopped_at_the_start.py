"""Ctrl-C, SIGTERM and a terminal that closes, while a command starts: no server and no key is left behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.cli.options import Stopped
from gateway.cli.stopping import TERMINATED, stoppable
from gateway.ledger.embedded import _server_alive, embedded_store
from tests.cli.command import environ, interruptible, run

POLICY = """
providers: {main: {kind: openai, base_url: "https://images.example.com/v1"}}
routes: {main/gpt-image-2: {provider: main, model: gpt-image-2}}
job_types: {draft: {routes: [main/gpt-image-2]}}
projects: {team: {job_types: [draft], budgets: [{window: day, limit: "10"}]}}
"""
HELD = """
import asyncio, sys, time
from gateway.cli.main import main
from gateway.ledger import embedded
from gateway.ledger.redis_ledger import RedisLedger

answers, asked = embedded._answers, []

def held(path):
    asked.append(path)
    if len(asked) == 2:
        print("here", flush=True)
        time.sleep(100)
    return answers(path)

async def opened(*_, **__):
    print("here", flush=True)
    await asyncio.sleep(100)

if sys.argv.pop(1) == "server":
    embedded._answers = held
else:
    RedisLedger.open = opened
main(prog_name="image-gateway")
"""
"""The command, which says when it is at a place and stays there: its server has just begun, or the ledger is opened."""
Process = subprocess.Popen[str]
PORTS = ("--port", "0", "--admin-port", "0")
DEMO = ("demo", *PORTS, "--sandbox-port", "0")
SERVE = ("serve", "--policy", "policy", *PORTS)
BOTH, ALL = (signal.SIGINT, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STRUCK = {
    "verify": ("server", ("ledger", "verify"), ALL),
    "spend": ("server", ("spend",), ALL),
    "keys": ("server", ("keys", "create", "--project", "team"), ALL),
    "demo": ("server", DEMO, ALL),
    "demo-key": ("ledger", DEMO, ALL),
    "serve": ("server", SERVE, BOTH),
    "serve-workers": ("server", (*SERVE, "--workers", "2"), BOTH),
    "serve-ledger": ("ledger", SERVE, BOTH),
}
"""Where, what, and by which signals: SIGHUP has `serve` read its policy."""
EVERY = [(name, number) for name, (_, _, numbers) in STRUCK.items() for number in numbers]


def struck(home: Path, place: str, arguments: Sequence[str], *numbers: signal.Signals) -> tuple[Process, str]:
    """Run a command, send it signals at a place, and return it once it has ended, with its complaints."""
    with interruptible():
        process = subprocess.Popen(
            [sys.executable, "-c", HELD, place, *arguments, "--data", "data"],
            cwd=home,
            env=environ(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    told = process.stdout.readline()
    for number in numbers:
        process.send_signal(number)
    try:
        _, complaints = process.communicate(timeout=100)
    finally:
        process.kill()
    assert told == "here\n", complaints
    return process, complaints


@pytest.mark.parametrize(("name", "number"), EVERY, ids=[f"{name}-{number.name}" for name, number in EVERY])
def test_it_leaves_nothing_running(tmp_path: Path, name: str, number: signal.Signals) -> None:
    """The server that it started is stopped, the key that it made ends, and those that serve end with 0."""
    place, arguments, _ = STRUCK[name]
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.yaml").write_text(POLICY)
    with embedded_store(tmp_path / "data"):
        pass  # there is a store, which reports want
    process, complaints = struck(tmp_path, place, arguments, number)

    assert not _server_alive(tmp_path / "data")
    if arguments[0] in {"serve", "demo"}:
        assert (process.returncode, "Traceback" in complaints) == (0, False), complaints
    else:
        assert process.returncode == (130 if number == signal.SIGINT else 143)
        assert complaints.startswith("image-gateway: stopped")
        assert len(complaints.splitlines()) == 1
    if name == "demo-key":
        [key] = json.loads(run("keys", "list", "--data", str(tmp_path / "data"), "--json").stdout)
        assert key["state"] != "live"


def test_two_signals_at_once_leave_nothing_running(tmp_path: Path) -> None:
    """A terminal sends one to all, and what the command was started by passes it on: it ends, and its server."""
    process, _ = struck(tmp_path, "server", ("keys", "create", "--project", "team"), *BOTH)

    assert process.returncode != 0
    assert not _server_alive(tmp_path / "data")


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_a_session_is_one_signal(second: signal.Signals) -> None:
    """Both are sent then: what is closed for the first goes on to its end, and who insists later is heard."""
    closed = []

    def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(second)
            closed.append(True)

    with interruptible(), pytest.raises(Stopped) as stopped, stoppable():
        work()
    assert (closed, stopped.value.exit_code) == ([True], TERMINATED)
