"""Processes of the gateway, `python -m gateway`, started at once: forked from one that has loaded its modules before.

What a process does is the same, and so is how it is looked at and ended. Where its environment says something to Python
itself, or to what is read as modules are loaded, it is started anew, as it is where the system has no descriptors of
processes; so do tests whose matter is the start.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Protocol

from gateway.failpoint import VARIABLE as FAILPOINT
from gateway.observe.series import WORKERS_VARIABLE

COMMAND = (sys.executable, "-m", "gateway")
AT_THE_START = ("PYTHON", "LC_", "LANG", "LD_", "GLIBC_", "MALLOC_", "TZ", "OTEL_", "UV_", FAILPOINT, WORKERS_VARIABLE)
"""Beginnings of variables that are read as a process starts, and as modules are loaded."""

Done = subprocess.CompletedProcess[str]


class Process(Protocol):
    """A process that was started, as the standard library knows one."""

    @property
    def pid(self) -> int: ...
    @property
    def returncode(self) -> int | None: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def terminate(self) -> None: ...
    def kill(self) -> None: ...


def start(
    *arguments: str,
    environ: Mapping[str, str],
    output: IO[bytes],
    errors: IO[bytes] | None = None,
    cwd: Path | None = None,
) -> Process:
    """Start the gateway's command; its errors go where its output goes, unless they have a place of their own."""
    if _early(environ) != _early(os.environ) or not _can_be_watched():
        return subprocess.Popen([*COMMAND, *arguments], env=environ, cwd=cwd, stdout=output, stderr=errors or output)
    return _server().start(arguments, environ, (output.fileno(), (errors or output).fileno()), cwd)


def run(*arguments: str, environ: Mapping[str, str], cwd: Path | None = None, timeout: float = 100) -> Done:
    """Run the gateway's command to its end; TimeoutExpired, and it is killed, if that takes longer (seconds)."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = start(*arguments, environ=environ, output=output, errors=errors, cwd=cwd)
        try:
            status = process.wait(timeout)
        except BaseException:
            process.kill()
            process.wait()
            raise
        output.seek(0)
        errors.seek(0)
        return Done([*COMMAND, *arguments], status, output.read().decode(), errors.read().decode())


@functools.cache
def _can_be_watched() -> bool:
    """Whether the system gives a descriptor of a process that is not one's own child, as Linux does."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def _early(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environ.items() if name.startswith(AT_THE_START)}


class _Forked:
    """Implements `Process` by a descriptor of it, so that no signal meets another one of the same number."""

    def __init__(self, server: _ForkServer, arguments: tuple[str, ...], pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server
        self._arguments = arguments
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Return its status as soon as it has ended."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; subprocess.TimeoutExpired if that takes longer (seconds)."""
        status = self._look(timeout)
        if status is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired([*COMMAND, *self._arguments], timeout)
        return status

    def send_signal(self, sig: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._descriptor, sig)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            ended = select.poll()
            ended.register(self._descriptor, select.POLLIN)
            if ended.poll(None if timeout is None else timeout * 1000):
                self.returncode = self._server.reap(self.pid)
                os.close(self._descriptor)
        return self.returncode


class _ForkServer:
    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._control, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            command = [sys.executable, "-m", "tests.fork_server", str(other.fileno())]
            root = Path(__file__).parent.parent
            self._process = subprocess.Popen(command, cwd=root, pass_fds=[other.fileno()])

    def start(
        self, arguments: tuple[str, ...], environ: Mapping[str, str], outputs: tuple[int, int], cwd: Path | None
    ) -> _Forked:
        os.umask(umask := os.umask(0))
        request = {
            "arguments": arguments,
            "environ": dict(environ),
            "cwd": str(cwd or Path.cwd()),
            "umask": umask,
            "ignored": [each for each in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_IGN],
        }
        with Path(os.devnull).open() as nothing:
            return _Forked(self, arguments, self._ask(request, [nothing.fileno(), *outputs]))

    def reap(self, pid: int) -> int:
        return self._ask({"reap": pid}, [])

    def close(self) -> None:
        self._control.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, object], descriptors: list[int]) -> int:
        with self._turn:
            socket.send_fds(self._control, [json.dumps(request).encode()], descriptors)
            answer = self._control.recv(100)
        assert answer, "the fork server is gone"
        return int(answer)


@functools.cache
def _server() -> _ForkServer:
    server = _ForkServer()
    atexit.register(server.close)
    return server
