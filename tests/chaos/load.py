"""A crowd of clients that expect anything: they ask without end, and remember what they were told."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.chaos.policy import TIGHT
from tests.e2e.accounting import nano

SIZES = ("1024x1024", "1536x1024", "1024x1536")
KEYED, STREAMED, LEAVING, TIGHT_SHARE, NARROW = 0.15, 0.10, 0.03, 0.30, 0.10
"""Shares of requests: with an Idempotency-Key, as a stream, whose client leaves, on tight budgets, on few places."""
PATIENCE = aiohttp.ClientTimeout(total=100)
REPEATS = 30
FINAL = frozenset({200, 400, 402, 409, 500, 502, 504})
"""What a client with an Idempotency-Key takes for an answer; all else it asks again."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `marker` is in its prompt, and so on the bill; `leaves` is seconds until its client goes."""

    marker: str
    project: str
    job_type: str
    body: Mapping[str, Any]
    keyed: bool
    leaves: float | None


@dataclass
class Heard:
    """What clients were told."""

    statuses: Counter[str] = field(default_factory=Counter)
    """How often each status or misfortune."""
    costs: dict[str, int] = field(default_factory=dict)
    """Requests answered 200 to their end, by id: the cost they were told, in nano-USD."""
    streams: set[str] = field(default_factory=set)
    """Streams that were read to their end, by id; they are not told what they cost."""
    keyed: set[str] = field(default_factory=set)
    """Markers of requests that were asked with an Idempotency-Key."""
    sent: int = 0
    """Requests that reached a gateway, as far as a client can tell."""


class Load:
    """Clients by the dozen. `progress` (0 to 1) says which of the tight budgets they are at."""

    def __init__(
        self, urls: Sequence[str], keys: Mapping[str, str], seed: int, progress: Callable[[], float] = lambda: 0.0
    ) -> None:
        self.heard = Heard()
        self._urls = list(urls)
        self._keys = keys
        self._seed = seed
        self._random = random.Random(seed)
        self._progress = progress
        self._serial = 0
        self._stopped = False

    def stop(self) -> None:
        """Begin no further request; `run` returns when those under way have ended."""
        self._stopped = True

    async def run(self, at_once: int) -> None:
        """Keep `at_once` requests going until `stop`."""
        connector = aiohttp.TCPConnector(limit=0, enable_cleanup_closed=False)
        async with aiohttp.ClientSession(connector=connector, timeout=PATIENCE) as session:
            await asyncio.gather(*(self._client(session) for _ in range(at_once)))

    async def _client(self, session: aiohttp.ClientSession) -> None:
        while not self._stopped:
            ask = self._next()
            if ask.keyed:
                self.heard.keyed.add(ask.marker)
            for _ in range(REPEATS if ask.keyed else 1):
                if await self._once(session, ask) in FINAL:
                    break
                await asyncio.sleep(self._random.uniform(0.02, 0.2))

    def _next(self) -> Ask:
        choose = self._random
        self._serial += 1
        marker = f"{self._seed}-{self._serial}"
        body: dict[str, Any] = {
            "prompt": f"{marker} {'a lighthouse ' * choose.randrange(12)}",
            "size": choose.choice(SIZES),
            "quality": choose.choices(["low", "medium"], [4, 1])[0],
            "n": choose.choices([1, 2, 3], [8, 1, 1])[0],
        }
        if choose.random() < STREAMED:
            body |= {"stream": True, "partial_images": choose.randrange(3)}
        project, job_type, kind = "team", "ample", choose.random()
        if kind < TIGHT_SHARE:
            job_type = f"tight-{min(int(self._progress() * TIGHT), TIGHT - 1)}"
        elif kind < TIGHT_SHARE + NARROW:
            project = "narrow"
        keyed = choose.random() < KEYED
        leaves = choose.uniform(0.005, 0.15) if choose.random() < LEAVING else None
        return Ask(marker, project, job_type, body, keyed, leaves)

    async def _once(self, session: aiohttp.ClientSession, ask: Ask) -> int | None:
        """Ask once, of any gateway; return the status, None where there was none."""
        headers = {"authorization": f"Bearer {self._keys[ask.project]}", "x-gateway-job-type": ask.job_type}
        if ask.keyed:
            headers["idempotency-key"] = ask.marker
        url = f"{self._random.choice(self._urls)}/v1/images/generations"
        try:
            async with asyncio.timeout(ask.leaves), session.post(url, json=dict(ask.body), headers=headers) as answer:
                text = await answer.read()
                self._note(ask, answer, text)
                return answer.status
        except aiohttp.ClientConnectorError:
            self.heard.statuses["refused"] += 1  # nobody listens there now: it is not a request
            await asyncio.sleep(0.03)
            return None
        except TimeoutError:
            told = "left" if ask.leaves else "timeout"
        except (aiohttp.ClientError, ConnectionError):
            told = "broken"
        self.heard.statuses[told] += 1
        self.heard.sent += 1
        return None

    def _note(self, ask: Ask, answer: aiohttp.ClientResponse, text: bytes) -> None:
        heard, request_id = self.heard, answer.headers.get("x-request-id", "")
        heard.sent += 1
        heard.statuses[str(answer.status)] += 1
        if answer.status != 200:
            return
        if "stream" in ask.body:
            if text.count(b"image_generation.completed") == 2 * ask.body["n"]:  # the event's name and its type
                heard.streams.add(request_id)
        elif cost := answer.headers.get("x-gateway-cost"):
            heard.costs[request_id] = nano(cost)
