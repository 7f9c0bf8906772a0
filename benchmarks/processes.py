"""Processes that a benchmark starts: on which cores, until when, and what memory and processor they take."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

import psutil

from benchmarks.machine import pinned

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".bench"
"""What is built, installed and measured; not part of the repository."""

START_SECONDS = 180
STOP_SECONDS = 60
MB = 1_000_000


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def started(
    command: Iterable[str], *, cores: tuple[int, ...], log: Path, environ: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on these cores, its words in `log`, until the block ends."""
    with log.open("wb") as words:
        process = subprocess.Popen(
            pinned(list(command), cores),
            stdout=words,
            stderr=words,
            cwd=ROOT,
            env={**os.environ, **(environ or {})},
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process of ours, with force if it does not listen."""
    process.terminate()
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_http(url: str, process: subprocess.Popen[bytes], log: Path, headers: Mapping[str, str] | None = None) -> None:
    """Wait until a URL answers below 500; RuntimeError with the last words if the process ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=dict(headers or {})), timeout=5):  # noqa: S310 - ours
                return
        except urllib.error.HTTPError as answer:
            answer.close()
            if answer.code < 500:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer: {log.read_text(errors='replace')[-2000:]}")


class Family:
    """Some processes that are measured together; `members` is asked each time, since children come and go."""

    def __init__(self, members: Callable[[], list[psutil.Process]]) -> None:
        self._members = members

    @classmethod
    def of(cls, pid: int) -> Family:
        """A process and all its descendants."""
        root = psutil.Process(pid)
        return cls(lambda: [root, *root.children(recursive=True)])

    @classmethod
    def alone(cls, pid: int) -> Family:
        """A process without its descendants."""
        root = psutil.Process(pid)
        return cls(lambda: [root])

    def stay_on(self, cores: tuple[int, ...]) -> None:
        """Move all their threads to these cores, where the system can."""
        if hasattr(os, "sched_setaffinity"):
            for thread in (thread for process in self._members() for thread in process.threads()):
                os.sched_setaffinity(thread.id, cores)

    def memory(self) -> int:
        """Return the resident memory of all, bytes."""
        total = 0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
        return total

    def processor(self) -> float:
        """Return the processor time that all have taken so far, seconds."""
        total = 0.0
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


class PeakMemory:
    """Watches the resident memory of processes from a thread; `peak` is bytes."""

    def __init__(self, family: Family, *, pause: float = 0.1) -> None:
        self._family = family
        self._pause = pause
        self._stopped = threading.Event()
        self.peak = 0
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._family.memory())
            if self._stopped.wait(self._pause):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
