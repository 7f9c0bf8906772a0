"""The servers of a store: sends each command to the one that has its data, follows redirections, tries again."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from redis.exceptions import AskError, MovedError

from gateway.ledger.address import Endpoint, StoreAddress, Topology
from gateway.ledger.connections import Command, Connections, Dialer, Opening, ask_once
from gateway.ledger.errors import LedgerRefused
from gateway.ledger.failures import FAULTS, described, failure_of
from gateway.ledger.line import Losses, StoreLine, StoreLines, Told, Watch
from gateway.ledger.locate import ClusterNodes, Locator, Sentinels, Shared, shown, slot_of
from gateway.ledger.primary_watch import PrimaryWatch
from gateway.ledger.shielded_tasks import ShieldedTasks
from gateway.ports import LedgerUnavailable

REPEATS = 2
BACKOFF = 0.01
"""Seconds before the first repeat, at most; twice that before the second."""

_NAME = re.compile(r"igw:\{([a-z0-9_-]+)\}:")
_EVERYTHING = 0
"""The slot of all keys where there are no slots."""


class Servers:
    """One server, a primary that sentinels name, or the nodes of a cluster.

    `watch` hears whenever a reply arrives, and bounds what goes on lines. In a cluster a command goes to the node that
    has the first of its names, one without a name to that of `realm`.
    """

    def __init__(self, address: StoreAddress, *, realm: str, watch: Watch) -> None:
        self._dialer = Dialer(address, watch.deadline)
        self._line_watch = watch
        self._deadline = watch.deadline
        self._where = address.where
        self._topology = address.topology
        self._slotted = address.topology is Topology.CLUSTER
        self._realm = realm
        self._locator: Locator | None = None
        if address.topology is Topology.SENTINEL:
            self._locator = Sentinels(address, self._dialer)
        elif address.topology is Topology.CLUSTER:
            self._locator = ClusterNodes(address, self._dialer)
        self._places: dict[int, Connections] = {}
        self._watch: PrimaryWatch | None = None
        self._shielded = ShieldedTasks()
        self.losses = Losses()
        """How often a connection's other end was gone, or was given up."""

    async def send(self, command: Command, *, repeatable: bool, on_away: Callable[[str], None]) -> Any:
        """Send a command and return its reply; LedgerUnavailable, after `on_away` if other calls would fail too.

        It is tried again, twice at most, if a reply says that nothing was done, if it could not be sent, or if it is
        `repeatable`.
        """
        slot, repeats = self._slot(command), 0
        place = self._place(slot)
        while True:
            generation: int | None = None
            try:
                wire, generation = await place.take()
                return await self._call(place, wire, generation, command)
            except FAULTS as error:
                failure = failure_of(error)
                if failure.moved:
                    await self._look_elsewhere(slot, generation, error)
                safe = repeatable or failure.nothing_done or generation is None
                if not (failure.again and safe and repeats < REPEATS):
                    # One broken connection says little: its server may have closed it for being idle.
                    if failure.away and (repeats or failure.nothing_done or generation is None):
                        on_away(described(error))
                    raise failure.error(f"store {self._where}: {described(error)}") from error
            repeats += 1
            await asyncio.sleep(BACKOFF * repeats * random.random())  # noqa: S311 - jitter, not a secret

    def free_line(self, command: Command) -> StoreLine | None:
        """Return an open line to whoever has a command's data; None if one must be opened."""
        place = self._places.get(self._slot(command) if self._slotted else _EVERYTHING)
        return place.lines.free.pop() if place is not None and place.lines.free else None

    async def line(self, command: Command, *, on_away: Callable[[str], None]) -> StoreLine:
        """Open a line to whoever has a command's data; LedgerUnavailable, after `on_away`, if that cannot be."""
        slot = self._slot(command)
        try:
            return await self._place(slot).line()
        except FAULTS as error:
            failure = failure_of(error)
            if failure.moved:
                await self._look_elsewhere(slot, None, error)
            if failure.away:
                on_away(described(error))
            raise failure.error(f"store {self._where}: {described(error)}") from error

    def lines(self) -> list[StoreLines]:
        """Return those of every place."""
        return [place.lines for place in self._places.values()]

    async def probe(self) -> None:
        """Return if the store answers as it should; LedgerUnavailable if not."""
        command = ("EXISTS", f"igw:{{{self._realm}}}:meta") if self._topology is Topology.CLUSTER else ("PING",)
        slot, generation = self._slot(command), None
        place = self._place(slot)
        try:
            wire, generation = await place.take()
            await place.call(wire, generation, command)
        except FAULTS as error:
            if failure_of(error).error is LedgerRefused:
                return  # an answer; calls had better be told themselves
            await self._look_elsewhere(slot, generation, error)
            raise LedgerUnavailable(described(error)) from error

    async def primaries(self) -> dict[str, Callable[..., Awaitable[Any]]]:
        """Return how to ask each primary of a cluster, none if this is no cluster; LedgerUnavailable."""
        if self._topology is not Topology.CLUSTER or self._locator is None:
            return {}
        try:
            return {shown(endpoint): partial(self._ask, endpoint) for endpoint in await self._locator.primaries()}
        except FAULTS as error:
            raise failure_of(error).error(f"store {self._where}: {described(error)}") from error

    async def _ask(self, endpoint: Endpoint, *command: str) -> Any:
        try:
            async with asyncio.timeout(self._deadline):
                return await ask_once(self._dialer.server(endpoint), *command)
        except FAULTS as error:
            raise failure_of(error).error(f"store {self._where}: {shown(endpoint)}: {described(error)}") from error

    async def drop(self) -> None:
        """Close every connection, those in use as soon as their calls end."""
        for slot, place in list(self._places.items()):
            await place.drop()
            if self._locator is not None:
                self._locator.forget(slot)

    async def aclose(self) -> None:
        """Close every connection, for good."""
        if self._watch is not None:
            await self._watch.aclose()
        await self.drop()
        await self._shielded.wait()

    async def _call(self, place: Connections, wire: Any, generation: int, command: Command) -> Any:
        try:
            return await place.call(wire, generation, command)
        except MovedError:  # an AskError to the client library, but one that says for good
            raise
        except AskError as error:
            return await place.redirected((error.host or wire.host, error.port), command)  # none: the same one's

    async def _look_elsewhere(self, slot: int, generation: int | None, error: Exception) -> None:
        if generation is not None:
            await self._place(slot).drop(generation)
        if self._locator is not None:
            self._locator.forget(slot)
            if isinstance(error, MovedError):
                self._locator.moved(slot, (error.host, error.port))

    def _broke(self, slot: int, generation: int, error: Exception, count: int, told: Told) -> None:
        """A line was lost under way, and nobody knows what became of its commands."""
        _ = self._shielded.start(self._after_break(slot, generation, error, count, told))

    async def _after_break(self, slot: int, generation: int, error: Exception, count: int, told: Told) -> None:
        try:
            if isinstance(error, FAULTS) and failure_of(error).moved:
                await self._look_elsewhere(slot, generation, error)
        finally:
            told([error] * count)

    def _slot(self, command: Command) -> int:
        if not self._slotted:
            return _EVERYTHING
        names = (_NAME.match(word) for word in command if isinstance(word, str))
        return slot_of(next((name[1] for name in names if name), self._realm))

    def _place(self, slot: int) -> Connections:
        if (place := self._places.get(slot)) is None:
            locate = None if self._locator is None else Shared(self._locator, slot).locate
            if locate is not None and self._topology is Topology.SENTINEL:
                self._watch = PrimaryWatch(locate, self.drop)
                locate = self._watch.locate
            opening = Opening(self._dialer, locate, primary=self._topology is Topology.SENTINEL)
            lines = StoreLines(self._line_watch, self.losses, partial(self._broke, slot))
            heard = self._line_watch.stall_detector.heard
            place = self._places[slot] = Connections(opening, heard, self.losses, lines)
        return place
