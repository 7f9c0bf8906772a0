"""Where the data is just now: asked of the sentinels, or of the cluster's nodes, whenever a connection is opened."""

from __future__ import annotations

import asyncio
import binascii
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from redis.exceptions import ClusterDownError
from redis.exceptions import ConnectionError as StoreConnectionError

from gateway.ledger.address import Endpoint, StoreAddress
from gateway.ledger.connections import Dialer, ask_once
from gateway.ledger.failures import FAULTS, described

SLOTS = 16_384
ASK_SECONDS = 0.2
"""How long a sentinel or node may take to say where the data is; the others are asked at the same time."""
MOST_ASKED = 5

Ranges = list[tuple[int, int, Endpoint]]
"""First slot, last slot, and the primary that serves them."""


def slot_of(tag: str) -> int:
    """Return the cluster slot of every key with this hash tag.

    https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#key-distribution-model
    """
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


class Locator(Protocol):
    """Knows who has the data. Asking raises RedisError if nobody can tell."""

    async def locate(self, slot: int) -> Endpoint:
        """Return the primary for a slot."""

    async def primaries(self) -> list[Endpoint]:
        """Return all primaries."""

    def moved(self, slot: int, endpoint: Endpoint) -> None:
        """Take note of a server's word that a slot is elsewhere."""

    def forget(self, slot: int) -> None:
        """Take note that whoever was named for a slot does not serve it."""


class Sentinels:
    """Asks all sentinels at once, and believes most of them: one that was cut off may name a primary of old."""

    def __init__(self, address: StoreAddress, dialer: Dialer) -> None:
        self._address = address
        self._dialer = dialer

    async def locate(self, slot: int) -> Endpoint:  # noqa: ARG002 - there are no slots
        """Return the primary."""
        votes: Counter[Endpoint] = Counter()
        silent: list[str] = []
        needed = len(self._address.endpoints) // 2 + 1

        def enough(answer: Endpoint | str) -> bool:
            if isinstance(answer, str):
                silent.append(answer)
                return False
            votes[answer] += 1
            return votes[answer] >= needed

        await _ask_all([self._ask(endpoint) for endpoint in self._address.endpoints], enough)
        if not votes:
            raise StoreConnectionError(f"no sentinel names a primary for {self._address.service!r}: {silent[0]}")
        return votes.most_common(1)[0][0]

    async def primaries(self) -> list[Endpoint]:
        """Return the one primary."""
        return [await self.locate(0)]

    def moved(self, slot: int, endpoint: Endpoint) -> None:
        """Ignore it: only clusters say so."""

    def forget(self, slot: int) -> None:
        """Nothing is remembered."""

    async def _ask(self, endpoint: Endpoint) -> Endpoint | str:
        """Return what a sentinel says, or in words why it says nothing."""
        service = self._address.service
        wire = self._dialer.sentinel(endpoint)
        answer = await _asked(ask_once(wire, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", service), endpoint)
        if isinstance(answer, str):
            return answer
        return (str(answer[0]), int(answer[1])) if answer else f"{shown(endpoint)} knows no {service!r}"


class ClusterNodes:
    """Asks several nodes at once and takes the first answer; the nodes themselves correct a wrong one (`MOVED`)."""

    def __init__(self, address: StoreAddress, dialer: Dialer) -> None:
        self._seeds = list(address.endpoints)
        self._known: list[Endpoint] = []
        self._dialer = dialer
        self._moved: dict[int, Endpoint] = {}

    async def locate(self, slot: int) -> Endpoint:
        """Return the primary for a slot."""
        if (told := self._moved.get(slot)) is not None:
            return told
        for first, last, primary in await self._slots():
            if first <= slot <= last:
                return primary
        raise ClusterDownError(f"no node serves slot {slot}")

    async def primaries(self) -> list[Endpoint]:
        """Return all primaries that serve slots."""
        return sorted({primary for _, _, primary in await self._slots()})

    def moved(self, slot: int, endpoint: Endpoint) -> None:
        """Go where the node said."""
        if endpoint[0]:
            self._moved[slot] = endpoint

    def forget(self, slot: int) -> None:
        """Ask again."""
        self._moved.pop(slot, None)

    async def _slots(self) -> Ranges:
        """Return ranges of slots, and who serves each."""
        others = [endpoint for endpoint in self._known if endpoint not in self._seeds]
        silent: list[str] = []
        found: list[Ranges] = []

        def enough(answer: tuple[Ranges, list[Endpoint]] | str) -> bool:
            if isinstance(answer, str):
                silent.append(answer)
                return False
            found.append(answer[0])
            self._known = answer[1]
            return True

        await _ask_all([self._ask(node) for node in (*self._seeds, *others)[:MOST_ASKED]], enough)
        if not found:
            raise StoreConnectionError(f"no node of the cluster tells who serves what: {silent[0]}")
        return found[0]

    async def _ask(self, endpoint: Endpoint) -> tuple[Ranges, list[Endpoint]] | str:
        answer = await _asked(ask_once(self._dialer.server(endpoint), "CLUSTER", "SLOTS"), endpoint)
        if isinstance(answer, str):
            return answer
        if not answer:
            return f"{shown(endpoint)} knows of no slots"
        ranges = [(first, last, _node(nodes[0], endpoint)) for first, last, *nodes in answer]
        return ranges, [_node(node, endpoint) for _, _, *nodes in answer for node in nodes]


class Shared:
    """Lets those who ask for a slot's primary at the same time share one answer."""

    def __init__(self, locator: Locator, slot: int) -> None:
        self._locator = locator
        self._slot = slot
        self._asking: asyncio.Task[Endpoint] | None = None

    async def locate(self) -> Endpoint:
        """Return the primary; RedisError if nobody can tell."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._locator.locate(self._slot))
            self._asking.add_done_callback(_seen)
        return await asyncio.shield(self._asking)


def _seen(task: asyncio.Task[Endpoint]) -> None:
    if not task.cancelled():
        task.exception()  # whoever asked has it, unless all of them were cancelled


async def _ask_all(questions: Sequence[Coroutine[Any, Any, Any]], enough: Callable[[Any], bool]) -> None:
    """Ask all at once, and hand over answers as they come until it is enough."""
    tasks = [asyncio.create_task(question) for question in questions]
    try:
        for next_answer in asyncio.as_completed(tasks):
            if enough(await next_answer):
                return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _node(node: Sequence[Any], asked: Endpoint) -> Endpoint:
    """Return a node's endpoint; one without a host has that of whoever was asked.

    https://redis.io/docs/latest/commands/cluster-slots/
    """
    return str(node[0] or asked[0]), int(node[1])


async def _asked(question: Awaitable[Any], endpoint: Endpoint) -> Any:
    """Return the reply, or in words why there is none."""
    try:
        async with asyncio.timeout(ASK_SECONDS):
            return await question
    except TimeoutError:
        return f"{shown(endpoint)} does not answer"
    except FAULTS as error:
        return f"{shown(endpoint)}: {described(error)}"


def shown(endpoint: Endpoint) -> str:
    """Return an endpoint in words."""
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
