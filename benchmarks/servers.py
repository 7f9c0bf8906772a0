"""Bare servers side by side: what a request costs each, and what each makes of heads that nobody should take.

The gateway's own protocol over llhttp (uvicorn accepts its connections), uvicorn's, and granian by both interfaces it
speaks. Each has one process and nothing to do but to read the body and to answer 1,000 bytes.
"""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.bench import Bench
from benchmarks.processes import Family, free_port, started, wait_http
from benchmarks.report import Section, milliseconds, number
from benchmarks.rivals import UnavailableError, python_environment
from benchmarks.subjects import Subject, ask
from benchmarks.wrk import keep_busy

GRANIAN = "2.8.7"
OWN = "Image Gateway's own"
CONNECTIONS = (64, 1)
PATIENCE = 1.0
"""Seconds; a server that has not answered by then, and keeps the connection, is taken to wait for more."""

_GET, _POST = b"GET /v1 HTTP/1.1\r\n", b"POST /v1 HTTP/1.1\r\n"
HEADS = {
    "no Host": _POST + b"Content-Length: 0\r\n\r\n",
    "two Hosts": _POST + b"Host: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n",
    "Content-Length and Transfer-Encoding": _POST
    + b"Host: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two Content-Lengths": _POST + b"Host: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "a folded line": _GET + b"Host: a\r\nX: a\r\n b\r\n\r\n",
    "bare line feeds": b"GET /v1 HTTP/1.1\nHost: a\n\n",
    "another host in the target": b"GET http://b/v1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "10,000 fields": _GET + b"Host: a\r\n" + b"".join(b"X%d: a\r\n" % at for at in range(10_000)) + b"\r\n",
    "a field of 1 MB": _GET + b"Host: a\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "a target of 100 KB": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}
_STATUS = re.compile(rb"^HTTP/1\.[01] (\d{3})", re.MULTILINE)


@contextlib.contextmanager
def servers(bench: Bench, notes: list[str]) -> Iterator[list[tuple[Subject, int]]]:
    """Run all that can be had here, each with its port; what cannot is told in `notes`."""
    commands = {
        OWN: [sys.executable, "-m", "benchmarks.bare_server"],
        "uvicorn": [sys.executable, "-m", "uvicorn", "benchmarks.bare_apps:asgi", "--no-access-log", "--port"],
    }
    try:
        program = str(python_environment("granian", f"granian[uvloop]=={GRANIAN}") / "granian")
        for kind in ("asgi", "rsgi"):
            how = ["--interface", kind, "--loop", "uvloop", "--no-ws", "--log-level", "error", "--port"]
            commands[f"granian {GRANIAN}, {kind.upper()}"] = [program, f"benchmarks.bare_apps:{kind}", *how]
    except UnavailableError as error:
        notes.append(f"Left out: {error}")
    with contextlib.ExitStack() as stack:
        found = []
        for name, command in commands.items():
            port, log = free_port(), bench.home("server") / "log"
            process = stack.enter_context(started([*command, str(port)], cores=bench.cores.measured, log=log))
            wait_http(f"http://127.0.0.1:{port}/", process, log)
            found.append((_subject(name, port, process.pid), port))
        yield found


def _subject(name: str, port: int, pid: int) -> Subject:
    return Subject(name, lambda kind: ask(port, kind), Family.of(pid))


def verdict(port: int, head: bytes) -> str:
    """Send a head, and return the statuses that come back, or what happened instead."""
    heard = b""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
        try:
            sock.sendall(head)
            while piece := sock.recv(65_536):
                heard += piece
        except TimeoutError:
            pass
        except OSError:  # closed before it had read all, which may take the answer with it
            return " ".join(_statuses(heard)) or "closed"
    return " ".join(_statuses(heard)) or "nothing"


def _statuses(heard: bytes) -> list[str]:
    return [status.decode() for status in _STATUS.findall(heard)]


def speed(bench: Bench, folder: Path, found: list[tuple[Subject, int]]) -> Section:
    """Measure all in turn, round after round."""
    processor: dict[tuple[str, int], list[float]] = defaultdict(list)
    p50: dict[str, list[float]] = defaultdict(list)
    for _ in range(bench.rounds):
        for connections in CONNECTIONS:
            for subject, _ in found:
                assert subject.family is not None
                before = subject.family.processor()
                load = keep_busy(subject.target("small"), connections, bench.seconds, folder)
                processor[subject.name, connections].append((subject.family.processor() - before) / load.answers)
                if connections == 1:
                    p50[subject.name].append(load.p50)
    rows: list[tuple[str, ...]] = [
        (
            subject.name,
            *(f"{number(1e6 * median(processor[subject.name, connections]))} µs" for connections in CONNECTIONS),
            milliseconds(median(p50[subject.name])),
        )
        for subject, _ in found
    ]
    head = ("", "processor for each, 64 connections", "1 connection", "p50 there")
    return Section("Bare servers", head, rows)


def run(bench: Bench) -> list[Section]:
    """Compare speed, then what each lets through."""
    notes: list[str] = []
    with servers(bench, notes) as found:
        fast = speed(bench, bench.home("load"), found)
        fast.notes = ["One process each; POST with a small JSON body, answers of 1,000 bytes.", *notes]
        rows: list[tuple[str, ...]] = [
            (name, *(verdict(port, head) for _, port in found)) for name, head in HEADS.items()
        ]
        strict = Section("What bare servers make of it", ("", *(subject.name for subject, _ in found)), rows)
    return [fast, strict]
