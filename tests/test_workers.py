"""Workers: what their supervisor does to them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.process.workers import ADMIN, DATA, Supervisor, _folder


def test_a_worker_that_only_starts_is_not_ended_by_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP leaves a process alone that does not listen for it yet; one that sleeps stands for it."""
    sleeping(tmp_path, monkeypatch)
    with supervising() as supervisor:
        before = signal.getsignal(signal.SIGHUP)
        children = [supervisor._start(role, os.environ) for role in (DATA, ADMIN)]
        assert signal.getsignal(signal.SIGHUP) == before
        supervisor._children = children
        supervisor._pass_on(signal.SIGHUP, None)
        for child in children:
            child.process.terminate()
            assert child.process.wait(60) == -signal.SIGTERM


def test_ctrl_c_at_a_terminal_does_not_end_a_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches the whole group, a worker that has only begun too, which its supervisor tells to stop."""
    sleeping(tmp_path, monkeypatch)
    taken: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: taken.append(number))
    try:
        with supervising() as supervisor:
            child = supervisor._start(DATA, os.environ)
            child.process.send_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)  # the supervisor takes it, as before
            supervisor._children = [child]
            assert (supervisor._wait(), child.process.returncode) == (0, -signal.SIGTERM)
    finally:
        signal.signal(signal.SIGINT, before)
    assert taken == [signal.SIGINT]


def test_a_worker_that_stands_still_is_killed_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal but one ends a process that was stopped: the gateway ends all the same, and says it was no success."""
    sleeping(tmp_path, monkeypatch)
    with supervising(patience=0.2) as supervisor:
        supervisor._children = [supervisor._start(role, os.environ) for role in (DATA, DATA, ADMIN)]
        still = supervisor._children[0].process
        still.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, still.pid, os.WSTOPPED)
        mercy = threading.Timer(60, still.send_signal, [signal.SIGCONT])  # it would be waited for without end
        mercy.start()
        assert supervisor._wait() == 1
        mercy.cancel()
        assert still.returncode == -signal.SIGKILL
        assert None not in [child.process.returncode for child in supervisor._children]


def test_a_worker_is_this_package_whatever_lies_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Modules of the same names there are nobody's of ours; a process that runs alone does not run them either."""
    for name in ("gateway", "uvloop", "secrets"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the current directory')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["image-gateway", "serve", "--help"])
    with supervising() as supervisor:
        worker = supervisor._start(DATA, os.environ).process
        assert worker.wait(60) == 0
    told, complaints = capfd.readouterr()
    assert told.startswith("Usage: image-gateway serve")
    assert complaints == ""


def test_the_folder_of_a_killed_supervisor_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that lives keeps its own, as does one that has only made it; at its end each removes its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    program = "from gateway.process.workers import _folder\nwith _folder() as own: print(own, flush=True), input()"
    command, environ = [sys.executable, "-c", program], {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        left = Path(other.stdout.readline().strip())
        begun = tmp_path / "igw-metrics-begun"
        begun.mkdir()
        with _folder() as living:
            assert sorted(tmp_path.iterdir()) == sorted([left, begun, living])
            (left / "counter_1.db").touch()
            other.kill()
            other.wait()
            with _folder() as own:
                assert sorted(tmp_path.iterdir()) == sorted([begun, living, own])
    assert list(tmp_path.iterdir()) == [begun]


def sleeping(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a process that only sleeps stand for each worker."""
    sleeper = home / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(sleeper))


@contextlib.contextmanager
def supervising(patience: float = 60.0) -> Iterator[Supervisor]:
    """Yield a supervisor that has started nothing yet."""
    with socket.create_server(("127.0.0.1", 0)) as data, socket.create_server(("127.0.0.1", 0)) as admin:
        supervisor = Supervisor(1, data, admin, "redis://127.0.0.1/0", patience=patience)
        before = signal.getsignal(signal.SIGHUP)
        yield supervisor
        signal.signal(signal.SIGHUP, before)
    os.close(supervisor._lifeline)
    os.close(supervisor._kept)
