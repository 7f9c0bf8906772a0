"""Workers: several processes behind one socket, and one beside them that answers for all of them."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gateway.observe.scrape import forget_worker
from gateway.observe.series import WORKERS_VARIABLE
from gateway.process.stopping import AT_ONCE

log = logging.getLogger("gateway.process.workers")

ROLE, STORE = "IMAGE_GATEWAY_INTERNAL_ROLE", "IMAGE_GATEWAY_INTERNAL_STORE"
SOCKET, LIFELINE = "IMAGE_GATEWAY_INTERNAL_SOCKET", "IMAGE_GATEWAY_INTERNAL_LIFELINE"
PORTS, READY = "IMAGE_GATEWAY_INTERNAL_PORTS", "IMAGE_GATEWAY_INTERNAL_READY"
SUPERVISOR = "IMAGE_GATEWAY_INTERNAL_SUPERVISOR"
DATA, ADMIN = "data", "admin"
POLL_SECONDS = 0.2
RESTART_SECONDS = 1.0
"""A worker that dies at once is not started again in a tight loop."""
BEYOND_GRACE = 30.0
"""Seconds that a worker may take to its end, beside those in which it serves on and finishes what runs."""
_FOLDERS, _LOCK = "igw-metrics-", "supervisor"
"""How folders of numbers begin, and the file in each that its supervisor has locked while it lives."""
_ASKED = {0, -signal.SIGTERM, -AT_ONCE}
"""Of a worker that ended as it was asked to: one that had not begun to serve ends by the signal itself."""


@dataclass(slots=True)
class Child:
    """A process of ours; `started` is monotonic seconds."""

    role: str
    process: subprocess.Popen[bytes]
    started: float


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What a worker gets from its supervisor. `lifeline` is a descriptor that reads end-of-file once that is gone.

    `ports` are those on which the workers listen, all together. `ready` is a descriptor, of the first worker alone,
    on which it tells that it serves. `supervisor` is its process id.
    """

    role: str
    socket: socket.socket
    store_url: str = field(repr=False)
    lifeline: int
    supervisor: int
    ports: tuple[int, ...] = ()
    ready: int | None = None

    def serves(self) -> None:
        """Tell the supervisor that this worker has begun to serve."""
        if self.ready is not None:
            os.write(self.ready, b".")
            os.close(self.ready)

    def reload_all(self) -> None:
        """Have every worker, this one too, read the policy again; no more than a word to the supervisor."""
        with contextlib.suppress(ProcessLookupError):  # it has just ended, so all of us are about to
            os.kill(self.supervisor, signal.SIGHUP)


def inherited() -> Inheritance | None:
    """Return what this process inherited if it is a worker; None if it is not."""
    role = os.environ.get(ROLE)
    if role is None:
        return None
    sock = socket.socket(fileno=int(os.environ[SOCKET]))
    ports = tuple(map(int, os.environ.get(PORTS, "").split()))
    ready = int(os.environ[READY]) if READY in os.environ else None
    supervisor = int(os.environ[SUPERVISOR])
    return Inheritance(role, sock, os.environ[STORE], int(os.environ[LIFELINE]), supervisor, ports, ready)


class Supervisor:
    """Starts the workers, starts one again when it dies, and passes on the signal to stop.

    The first starts alone, and `ready` is called once it serves: what keeps it from starting would keep them all.
    A process that has not ended `patience` seconds after it was told to is killed.
    """

    def __init__(
        self,
        workers: int,
        data: socket.socket,
        admin: socket.socket,
        store_url: str,
        *,
        patience: float = BEYOND_GRACE,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._others = [DATA] * (workers - 1) + [ADMIN]
        self._patience = patience
        self._ready = ready
        self._sockets = {DATA: data, ADMIN: admin}
        self._store_url = store_url
        self._lifeline, self._kept = os.pipe()
        self._children: list[Child] = []
        self._stopping = False

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT; returns the exit status: 1 if none could start or one had to be killed."""
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        with _folder() as metrics:
            environ = {**os.environ, WORKERS_VARIABLE: str(metrics)}
            if self._serves_first(environ):
                self._children += [self._start(role, environ) for role in self._others]
                self._ready()
            elif not self._stopping:
                return 1
            while not self._stopping:
                self._restart_dead(environ, metrics)
                time.sleep(POLL_SECONDS)
            return self._wait()

    def _serves_first(self, environ: Mapping[str, str]) -> bool:
        """Start one worker and wait until it serves; False if it ended before, or all of us shall."""
        told, telling = os.pipe()
        try:
            self._children = [self._start(DATA, environ, telling)]
        finally:
            os.close(telling)  # so that the pipe ends with the worker
        try:
            while not self._stopping:
                if select.select([told], [], [], POLL_SECONDS)[0]:
                    return bool(os.read(told, 1))
        finally:
            os.close(told)
        return False

    def _start(self, role: str, environ: Mapping[str, str], ready: int | None = None) -> Child:
        descriptor = self._sockets[role].fileno()
        own = {**environ, ROLE: role, STORE: self._store_url, SOCKET: str(descriptor), LIFELINE: str(self._lifeline)}
        own[SUPERVISOR] = str(os.getpid())
        own[PORTS] = " ".join(str(each.getsockname()[1]) for each in self._sockets.values())
        passed = [descriptor, self._lifeline]
        if ready is not None:
            own[READY] = str(ready)
            passed.append(ready)
        # It imports from where this process does, and not first from the current directory, as -m by itself would.
        own["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        command = [sys.executable, "-P", "-m", "gateway", *sys.argv[1:]]
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as does the child, until it has read policy
        # A terminal's Ctrl-C waits here until this is done, and in the child for ever: we tell it when to stop.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process = subprocess.Popen(command, env=own, pass_fds=passed)  # noqa: S603 - our own command line
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)
        return Child(role, process, time.monotonic())

    def _restart_dead(self, environ: Mapping[str, str], metrics: Path) -> None:
        for place, child in enumerate(self._children):
            if child.process.poll() is None:
                continue
            log.error("%s process %d ended with %d", child.role, child.process.pid, child.process.returncode)
            forget_worker(child.process.pid, metrics)
            time.sleep(max(child.started + RESTART_SECONDS - time.monotonic(), 0))
            if not self._stopping:
                self._children[place] = self._start(child.role, environ)

    def _pass_on(self, number: int, _: object) -> None:
        for child in () if self._stopping else self._children:  # one at its end would be killed by it
            child.process.send_signal(number)

    def _stop(self, *_: object) -> None:
        for child in self._children if self._stopping else ():  # whoever asks twice waits no longer
            if child.role == DATA:
                child.process.send_signal(AT_ONCE)
        self._stopping = True

    def _wait(self) -> int:
        """Stop the workers first: the admin process tells of them until they are gone."""
        for each in self._sockets.values():
            each.close()  # a port is closed once nobody has it open: whoever connects is refused then
        for role in (DATA, ADMIN):
            mine = [child.process for child in self._children if child.role == role]
            deadline = time.monotonic() + self._patience
            for process in mine:
                process.terminate()
            for process in mine:
                _wait_for(process, deadline)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # its default would end what has nothing left to do
        return int(any(child.process.returncode not in _ASKED for child in self._children))


def _wait_for(process: subprocess.Popen[bytes], deadline: float) -> None:
    """Return once it has ended; one that stands still is killed at the deadline (monotonic seconds)."""
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        log.error("process %d did not end and is killed", process.pid)  # noqa: TRY400 - the traceback tells nothing
        process.kill()
        process.wait()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Yield a folder for the workers' numbers; those of supervisors that were killed are removed first."""
    for lock in filter(Path.is_file, Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*/{_LOCK}")):
        with contextlib.suppress(OSError), lock.open("rb") as file:  # in use, somebody else's, or gone meanwhile
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_FOLDERS) as name, Path(name, f"{_LOCK}.new").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        Path(file.name).rename(Path(name, _LOCK))  # nobody finds it unlocked
        yield Path(name)
