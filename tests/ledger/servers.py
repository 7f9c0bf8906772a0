"""The embedded server's process, seen from outside."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil


def server_pid(directory: Path) -> int | None:
    """The live server's process id; None if it is gone, or only waits to be reaped."""
    try:
        pid = int((directory / "valkey.pid").read_text())
        alive = psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None
    return pid if alive else None


def kill_server(directory: Path) -> None:
    """End it outright, as a crash would."""
    pid = server_pid(directory)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while server_pid(directory) is not None:
        time.sleep(0.005)
