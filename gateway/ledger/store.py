"""The store: every call bounded in time, and refused at once while the store is away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from redis.exceptions import NoScriptError

from gateway.ledger.address import StoreAddress
from gateway.ledger.breaker import Breaker
from gateway.ledger.connections import Command, packed
from gateway.ledger.embedded import embedded_store, is_embedded
from gateway.ledger.errors import LedgerRefused, StoreError
from gateway.ledger.failures import answered
from gateway.ledger.line import Told, Watch
from gateway.ledger.names import Names
from gateway.ledger.script import Script
from gateway.ledger.server_check import check_servers
from gateway.ledger.server_process import is_at_work
from gateway.ledger.servers import Servers
from gateway.ledger.shielded_tasks import ShieldedTasks
from gateway.ledger.stall_detector import StallDetector
from gateway.ports import LedgerUnavailable

EMBEDDED = "embedded:"

SILENCE = 0.075
"""Seconds: a store that says nothing at all for so long, while calls wait, is away."""
LAST_LOOK, TURNS = 0.001, 8
"""Seconds and turns of the loop within which what a silent store has just said is read, and whoever asked hears it."""
DEADLINE = 1.0
"""Seconds for a call."""
DISK_DEADLINE = 5.0
"""Seconds for one to the embedded store: a disk may take long, and a server that is gone is noticed at once."""
SHORT_DEADLINE = 2.0
"""Seconds: calls that may take longer are big reads for reports, which may well keep the store quiet."""
PROBE_SECONDS = 0.5

_AWAY = "Start it, or choose another with --store (`embedded:` needs no server)"
_RUNS = "It runs: try again once that has passed, or choose another with --store"
_CERTIFICATE = re.compile(r"\[SSL: \w*(CERTIFICATE|UNKNOWN_CA)")
_UNFIT = "Check the server's certificate, its date and names, and the files that the ssl_ options in --store name"


class Store:
    """Connections to the store, of which `connections` at most are in use at once, besides those of `ask`.

    Every call ends within `deadline` seconds once it has a connection: by default one, five for the embedded store. It
    waits at most `patience` seconds for a connection; for what ran out while this process itself stood still, that
    time does not count. It ends sooner if the store has said nothing on any connection for `silence` seconds: 0.075
    by default, and no such rule if the deadline is over two seconds. From then on, or once it cannot be connected to,
    calls fail at once, nothing is sent, and those that wait for a connection fail too, until a probe in the background
    is answered. An embedded store that is at work is not silent: a disk may well take a second to write.

    A call is tried again, twice at most, if the store said that nothing was done, or if it is marked `repeatable`. One
    that is cancelled or fails closes its connection, so a late reply can never answer somebody else's call.

    In a cluster a call goes to the node that has the first of its names, one without a name to that of `realm`.
    """

    def __init__(
        self,
        url: str,
        *,
        connections: int = 16,
        deadline: float | None = None,
        patience: float = 2.0,
        silence: float | None = None,
        realm: str = "main",
    ) -> None:
        address = StoreAddress.parse(url)
        if silence is None and (deadline is None or deadline <= SHORT_DEADLINE):
            silence = SILENCE
        self._realm = realm
        socket = Path(address.path) if address.path is not None else None
        self._embedded = socket if socket is not None and is_embedded(socket) else None
        address = address.at_home() if self._embedded else address
        self.where = address.where
        if deadline is None:
            deadline = DISK_DEADLINE if self._embedded else DEADLINE
        self._deadline = deadline
        self._patience = patience
        self._quiet = silence if silence is not None and silence < deadline else deadline
        self._free = asyncio.Semaphore(connections)
        on_silence = self._heard_nothing if self._quiet < deadline else None
        self._stall_detector = StallDetector(self._quiet, on_silence, self._stood_still)
        self._servers = Servers(address, realm=realm, watch=Watch(self._stall_detector, deadline, self._too_late))
        self.losses = self._servers.losses
        """How often a connection was lost: whoever answers next may be another server, and know less."""
        self._calls: set[asyncio.Timeout] = set()
        self._queue: set[asyncio.Timeout] = set()
        self._breaker = Breaker(self.where, self._probe, partial(_end, self._queue))
        self._verdict: asyncio.Handle | None = None
        self._dropping: asyncio.Task[None] | None = None
        self._shielded = ShieldedTasks()

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[str], *, repeatable: bool = False) -> Any:
        """Run a script in one round trip (two if the server does not have it yet); raises LedgerUnavailable."""
        try:
            return await self.execute("EVALSHA", script.sha, len(keys), *keys, *args, repeatable=repeatable)
        except LedgerRefused as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self.execute("EVAL", script.source, len(keys), *keys, *args, repeatable=repeatable)

    async def execute(self, *command: str | int, repeatable: bool = False) -> Any:
        """Send one command and return its reply, text decoded; raises LedgerUnavailable."""
        if self._free.locked():
            self._refuse_if_away()
            await self._wait_for_connection()
        else:
            await self._free.acquire()  # at once, without a timer
        try:
            return await self._watched(self._servers.send(command, repeatable=repeatable, on_away=self._breaker.open))
        finally:
            self._free.release()

    def ask(self, commands: Sequence[Command], told: Told) -> None:
        """Send commands of one realm at once; `told` is called, after this, with the reply or the error of each.

        They have a connection of their own, and wait for none of those that others may use: whoever asks does so one
        question after another. One whose error is told was refused, or its connection broke and nobody knows what
        became of it. ValueError or TypeError for what is no text.
        """
        data = packed(commands)
        line = self._servers.free_line(commands[0]) if self._breaker.reason is None else None
        if line is not None:
            line.ask(data, len(commands), told)
        else:
            _ = self._shielded.start(self._open_and_ask(commands, data, told))

    async def execute_all(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands as `ask` does and return what it tells; raises LedgerUnavailable."""
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

        def told(what: list[Any] | LedgerUnavailable) -> None:
            if replies.done():
                return  # whoever waited has left
            if isinstance(what, LedgerUnavailable):
                replies.set_exception(what)
            else:
                replies.set_result(what)

        self.ask(commands, told)
        return await replies

    async def _open_and_ask(self, commands: Sequence[Command], data: bytes, told: Told) -> None:
        try:
            line = await self._watched(self._servers.line(commands[0], on_away=self._breaker.open))
        except LedgerUnavailable as error:
            told(error)
        except asyncio.CancelledError:
            told(LedgerUnavailable(f"store {self.where}: the gateway is at its end"))
            raise
        except Exception as error:  # noqa: BLE001 - each runs by itself then, and meets its own
            told([error] * len(commands))
        else:
            line.ask(data, len(commands), told)

    async def _watched(self, sending: Coroutine[Any, Any, Any]) -> Any:
        try:
            self._refuse_if_away()
            async with asyncio.timeout(self._deadline) as scope:
                self._calls.add(scope)
                self._stall_detector.begin()
                try:
                    reply = await sending
                finally:
                    self._stall_detector.end()
                    self._calls.discard(scope)
                self._breaker.was_well = True
                return reply
        except TimeoutError as error:
            raise self._too_late() from error
        finally:
            sending.close()  # if it was never begun

    async def check(self, *, writes: bool = True) -> None:
        """Check that the store answers and is fit for money; StoreError in one line if not, a warning if unwise.

        Its user must have every right that a gateway needs, unless nothing is written. Silence is no matter here:
        finding and greeting a server for the first time may take long.
        """
        try:
            async with asyncio.timeout(self._deadline):
                primaries = await self._servers.primaries()
            written = Names(self._realm).meta if writes else None
            await check_servers(self.where, primaries or {"the server": self._ask}, written)
        except LedgerRefused as error:
            raise StoreError(f"{error}. Check the user, the password and the rights in --store") from error
        except (LedgerUnavailable, TimeoutError) as error:
            told = str(error).rstrip(".") or f"store {self.where}: no answer in {self._deadline:g} s"
            advice = _UNFIT if _CERTIFICATE.search(told) else _RUNS if answered(error) else _AWAY
            raise StoreError(f"{told}. {advice}") from error

    async def aclose(self) -> None:
        """Close every connection."""
        self._stall_detector.close()
        if self._verdict is not None:
            self._verdict.cancel()
        await self._breaker.aclose()
        await self._shielded.wait()
        if self._dropping is not None:
            await self._dropping
        await self._servers.aclose()
        await asyncio.sleep(0)  # their transports see their ends

    async def _ask(self, *command: str) -> Any:
        async with asyncio.timeout(self._deadline):
            return await self._servers.send(command, repeatable=True, on_away=_no_matter)

    def _too_late(self) -> LedgerUnavailable:
        if self._embedded and self._stall_detector.lasts:  # its disk was waited for
            self._breaker.open(f"no answer in {self._deadline:g} s")
        return LedgerUnavailable(self._breaker.reason or f"store {self.where}: no answer in {self._deadline:g} s")

    def _refuse_if_away(self) -> None:
        if self._breaker.reason is not None:
            raise LedgerUnavailable(self._breaker.reason)

    async def _wait_for_connection(self) -> None:
        try:
            async with asyncio.timeout(self._patience) as scope:
                self._queue.add(scope)
                try:
                    await self._free.acquire()
                finally:
                    self._queue.discard(scope)
        except TimeoutError as error:
            self._refuse_if_away()
            raise LedgerUnavailable(f"store {self.where}: no connection free in {self._patience:g} s") from error

    def _heard_nothing(self) -> None:
        if self._embedded and is_at_work(self._embedded):
            return  # until the deadline of the calls
        if self._verdict is not None:
            self._verdict.cancel()
        self._verdict = asyncio.get_running_loop().call_later(LAST_LOOK, self._let_be_away, TURNS)

    def _let_be_away(self, turns: int) -> None:
        if not self._stall_detector.lasts:
            return  # it had just said something
        if turns:
            self._verdict = asyncio.get_running_loop().call_soon(self._let_be_away, turns - 1)
            return
        self._breaker.open(f"no answer on any connection for {self._quiet:g} s")
        self._dropping = asyncio.create_task(self._servers.drop())
        _end(self._calls)
        for lines in self._servers.lines():
            lines.end(self._too_late())

    def _stood_still(self, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        for scope in (*self._calls, *self._queue):
            due = scope.when()
            if due is not None and due <= now and not scope.expired():
                scope.reschedule(due + seconds)
        for lines in self._servers.lines():
            lines.postpone(seconds)

    async def _probe(self) -> None:
        seconds = min(self._deadline, max(PROBE_SECONDS, 2 * self._quiet))
        try:
            async with asyncio.timeout(seconds):
                await self._servers.probe()
        except TimeoutError as error:
            raise LedgerUnavailable(f"no answer in {seconds:g} s") from error


def _no_matter(why: str) -> None:
    """Leave it to whoever asked."""


def _end(scopes: set[asyncio.Timeout]) -> None:
    """Let the time of all of them be up now."""
    now = asyncio.get_running_loop().time()
    for scope in scopes:
        if not scope.expired():
            scope.reschedule(now)


@contextmanager
def store_url(url: str, data_dir: Path, *, watched: bool = False) -> Iterator[str]:
    """Yield a URL for `Store` from what the user gave; `embedded:` runs a server in `data_dir` meanwhile.

    One that dies is started again if it is `watched`. StoreError if the URL cannot be one of a store.
    """
    if url == EMBEDDED:
        with embedded_store(data_dir, watched=watched) as socket_url:
            yield socket_url
        return
    StoreAddress.parse(url)
    yield url
