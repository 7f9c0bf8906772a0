"""Workers: what their supervisor does to them."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from gateway.process.workers import ADMIN, DATA, Supervisor


def test_a_worker_that_only_starts_is_not_ended_by_a_reload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGHUP leaves a process alone that does not listen for it yet; one that sleeps stands for it."""
    sleeper = tmp_path / "sleeper"
    sleeper.write_text("#!/bin/sh\nexec sleep 60\n")
    sleeper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(sleeper))
    with socket.create_server(("127.0.0.1", 0)) as data, socket.create_server(("127.0.0.1", 0)) as admin:
        supervisor = Supervisor(1, data, admin, "redis://127.0.0.1/0")
        before = signal.getsignal(signal.SIGHUP)
        children = [supervisor._start(role, os.environ) for role in (DATA, ADMIN)]
        assert signal.getsignal(signal.SIGHUP) == before
        supervisor._children = children
        supervisor._pass_on(signal.SIGHUP, None)
        for child in children:
            child.process.terminate()
            assert child.process.wait(60) == -signal.SIGTERM
    os.close(supervisor._lifeline)
    os.close(supervisor._kept)
