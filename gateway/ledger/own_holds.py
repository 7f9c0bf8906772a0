"""Own holds: what this instance took and what it ended lately, so that a store that lost them can be told again."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field
from typing import Any

from gateway.domain.idempotency import Binding
from gateway.domain.record import record
from gateway.ledger.script_batching import What

KEPT_SECONDS = 60.0
"""How long an ended hold can be told again; a replica that lags behind longer than this loses some for good."""
KEPT_MOST = 5_000
NEWEST_MOST = 10_000
"""Requests whose newest attempt is remembered: more than a process can have in flight."""


@record(frozen=True, slots=True)
class HoldRecord:
    """All that is needed to put a hold back. `at` is milliseconds by the store's clock; `about` and `candidate` JSON.

    `index` counts the candidates that were offered from 1. `promised_at` is the moment whose calendar windows it counts
    in, where it began a task whose money was held in others than those of `at`; else 0.
    """

    request_id: str
    attempt: int
    token: str
    state: str
    at: int
    about: str
    candidate: str
    index: int = 1
    binding: Binding | None = None
    promised_at: int = 0

    @property
    def member(self) -> str:
        """Its name among those that are due."""
        return member(self.request_id, self.attempt)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it; what few holds have is left out of others, for earlier versions don't know it."""
        said = asdict(self)
        return said if self.promised_at else {name: value for name, value in said.items() if name != "promised_at"}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> HoldRecord:
        """Read it back; ValueError if it is none."""
        try:
            binding = Binding(**kept["binding"]) if kept["binding"] else None
            return cls(**{**kept, "binding": binding})
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a hold: {error}") from error


@record(frozen=True, slots=True)
class Ending:
    """An operation that ended a hold, as it can be repeated; without a record there is nothing to put back first.

    `attempt` is None where only the store knew which one it was.
    """

    request_id: str
    attempt: int | None
    operation: str
    what: What
    keys: tuple[str, ...]
    args: tuple[str, ...]
    record: HoldRecord | None
    presumed: bool = False
    """Whether its cost was presumed: that is the most that the store knows of it then."""
    ended: float = field(default_factory=time.monotonic)


def member(request_id: str, attempt: int) -> str:
    """Return the name of an attempt among those that are due."""
    return f"{request_id}:{attempt}"


class OwnHolds:
    """Kept in memory alone."""

    def __init__(self) -> None:
        self._live: dict[tuple[str, int], HoldRecord] = {}
        self._lapsed: set[str] = set()  # by name, as the store tells it; seldom any
        self._ended: deque[Ending] = deque(maxlen=KEPT_MOST)
        self.newest: OrderedDict[str, int] = OrderedDict()  # of a plain dict the first is sought among those long gone
        """The highest attempt of each request of which one was taken here lately."""

    def add(self, record: HoldRecord) -> None:
        """A hold was taken."""
        self._live[record.request_id, record.attempt] = record
        if self._lapsed:
            self._lapsed.discard(record.member)
        newest = self.newest
        newest[record.request_id] = max(newest.pop(record.request_id, 0), record.attempt)
        if len(newest) > NEWEST_MOST:
            newest.popitem(last=False)

    def find(self, request_id: str, attempt: int) -> HoldRecord | None:
        """Return a hold that has not ended here."""
        return self._live.get((request_id, attempt))

    def remove(self, request_id: str, attempt: int) -> HoldRecord | None:
        """It has ended; return it."""
        if self._lapsed:
            self._lapsed.discard(member(request_id, attempt))
        return self._live.pop((request_id, attempt), None)

    def ended(self, ending: Ending) -> None:
        """Remember how a hold ended, for a while."""
        ended = self._ended
        if ended and ended[0].ended < ending.ended - KEPT_SECONDS:
            self._forget(ending.ended)
        ended.append(ending)

    def _forget(self, now: float) -> None:
        while self._ended and self._ended[0].ended < now - KEPT_SECONDS:
            self._ended.popleft()

    def lapsed(self, names: list[str]) -> None:
        """Their leases ran out; what they cost is still to be told, so they are kept but no longer renewed."""
        if names:
            self._lapsed.update({record.member for record in self._live.values()}.intersection(names))

    @property
    def due(self) -> list[str]:
        """Names of the holds whose leases are to be renewed; what ended long ago is forgotten on the way."""
        self._forget(time.monotonic())
        return [name for record in self._live.values() if (name := record.member) not in self._lapsed]

    @property
    def live(self) -> list[HoldRecord]:
        """Holds that have not ended here."""
        return list(self._live.values())

    def endings(self) -> Iterator[Ending]:
        """Yield what ended lately, oldest first."""
        since = time.monotonic() - KEPT_SECONDS
        yield from (ending for ending in list(self._ended) if ending.ended >= since)
