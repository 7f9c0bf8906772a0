"""A fork server: it has the gateway's modules loaded, and each process that it forks is `python -m gateway` from there.

To load them takes most of a second, and the tests start the gateway a thousand times. See `tests.processes`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import runpy
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, TextIO

import gateway.process.serving  # noqa: F401 - what is loaded here need not be in those that are forked
from tests.cli.command import commands

STANDARD = (0, 1, 2)


def main() -> bool:
    """Serve over the inherited socket until its other end is closed; return True in a process that was forked."""
    control = socket.socket(fileno=int(sys.argv[1]))
    list(commands())  # each is loaded when it is asked for
    gc.collect()
    gc.freeze()  # what is not looked at goes on being shared
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, 1_000_000, len(STANDARD))
        if not message:
            return False
        request = json.loads(message)
        if "reap" in request:
            _, status = os.waitpid(request["reap"], 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            break
        for descriptor in descriptors:
            os.close(descriptor)
        control.send(str(pid).encode())
    control.close()
    become(descriptors, **request)
    return True


def become(
    descriptors: Sequence[int],
    *,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    cwd: str,
    umask: int,
    ignored: Sequence[int],
) -> None:
    """Take on what a new interpreter would have been started with; `ignored` are signals."""
    for number, descriptor in zip(STANDARD, descriptors, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.umask(umask)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    signal.signal(signal.SIGINT, signal.SIG_IGN if signal.SIGINT in ignored else signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_IGN if signal.SIGHUP in ignored else signal.SIG_DFL)
    sys.path[0] = str(Path.cwd())
    sys.argv = ["gateway", *arguments]
    streams: Any = sys  # its __stdin__ and the others are to be the same, but are declared as never changed
    streams.stdin = streams.__stdin__ = _stream(0, "r", sys.stdin)
    streams.stdout = streams.__stdout__ = _stream(1, "w", sys.stdout)
    streams.stderr = streams.__stderr__ = _stream(2, "w", sys.stderr, lines=True)


def _stream(number: int, mode: str, like: TextIO, *, lines: bool = False) -> IO[Any]:
    buffering = 1 if lines or os.isatty(number) else -1
    return open(number, mode, buffering, like.encoding, like.errors, closefd=False)


if __name__ == "__main__":
    forked = False
    with contextlib.suppress(KeyboardInterrupt, ConnectionResetError):
        forked = main()
    if forked:
        runpy.run_module("gateway", run_name="__main__", alter_sys=True)
