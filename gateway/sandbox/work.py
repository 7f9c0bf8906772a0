"""Work that a simulated provider does in its own time: queued, running, done, by the clock alone.

A piece of work is one timer at a time, whether anybody asks after it or not; pictures are drawn when they are fetched.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from gateway.sandbox.arrivals import Arrival
from gateway.sandbox.bill import Bill, BillLine
from gateway.sandbox.fault_catalog import Stage
from gateway.sandbox.faults import Fault
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.pictures import Picture
from gateway.sandbox.sources import Source, Unusable

_IN_QUEUE = 1 / 3
"""The share of its time that work waits before it begins."""


class State(StrEnum):
    """How far work is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Why(StrEnum):
    """Why work failed; each provider has its own words for it."""

    MODERATION = "moderation"
    INPUT = "input"
    """An input image could not be fetched or decoded, or the request is not valid."""
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why work did not succeed. `code` is the provider's word, empty for its usual one; `billed` charges it even so."""

    why: Why
    message: str
    code: str = ""
    billed: bool = False
    field: str = "prompt"
    """Of what the request said, what was wrong."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What work costs: `nano_usd`, and what it was counted by."""

    nano_usd: int
    usage: Mapping[str, object]


@dataclass(slots=True, kw_only=True)
class Work:
    """One piece of work. `base` is the URL that its links begin with; times are Unix seconds.

    `price` tells the charge of the work as it is when asked. `load` fetches input images into `sources` before the work
    runs. `report`, if the client gave an address, is called when the work has begun and when it is over.
    """

    id: str
    provider: str
    model: str
    operation: str
    prompt: str
    quality: str
    size: str
    pictures: tuple[Picture, ...]
    base: str
    arrival: Arrival
    price: Callable[[Work], Charge]
    load: Callable[[], Awaitable[list[Source]]] | None = None
    report: Callable[[Work], None] | None = None
    callback_url: str | None = None
    mishap: Fault | None = None
    """What befell the request that began the work."""
    faults: Mapping[Stage, Fault] = field(default_factory=dict)
    """What befalls the work itself."""
    extension: str = "png"
    token: str = field(default_factory=lambda: secrets.token_hex(8))
    """What makes result links unguessable."""
    input: Mapping[str, object] = field(default_factory=dict)
    """What the client asked for, as answers repeat it."""
    facts: dict[str, object] = field(default_factory=dict)
    """What the provider keeps besides."""
    doomed: Failure | None = None
    """How it will fail, if that is settled already."""
    sources: list[Source] = field(default_factory=list)
    state: State = State.QUEUED
    failure: Failure | None = None
    created: float = field(default_factory=time.time)
    started: float | None = None
    finished: float | None = None
    run_microseconds: int = 0
    nano_usd: int = 0
    asked: int = 0
    """How often the work was asked after."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    calls: list[dict[str, object]] = field(default_factory=list)
    """Each try to call the client back: `at`, and `status` or `error`."""

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in {State.DONE, State.FAILED, State.CANCELLED}

    def fault(self, name: str) -> Fault | None:
        """Return the fault of that name if it strikes this work."""
        return next((fault for fault in self.faults.values() if fault.name == name), None)

    def as_json(self) -> dict[str, object]:
        """Return what the control plane shows."""
        return {
            "id": self.id,
            "provider": self.provider,
            "request": self.arrival.request,
            "model": self.model,
            "operation": self.operation,
            "state": self.state.value,
            "images": len(self.pictures),
            "created": self.created,
            "started": self.started,
            "finished": self.finished,
            "failure": None if self.failure is None else self.failure.code or self.failure.why.value,
            "nano_usd": self.nano_usd,
            "asked": self.asked,
            "faults": [fault.name for fault in self.faults.values()],
            "callback_url": self.callback_url,
            "calls": list(self.calls),
        }


class Works:
    """All simulated work of one sandbox since the start or the last reset."""

    def __init__(self, options: SandboxOptions, bill: Bill) -> None:
        self._options = options
        self._bill = bill
        self._all: dict[tuple[str, str], Work] = {}
        self._under_way: dict[tuple[str, str], Work] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}

    def begin(self, work: Work) -> None:
        """Queue the work; it goes on by itself."""
        self._all[work.provider, work.id] = self._under_way[work.provider, work.id] = work
        slow = work.fault("slow_work")
        seconds = self._options.work_seconds + (float(slow.parameters["seconds"]) if slow else 0.0)
        self._after(work, seconds * _IN_QUEUE, lambda: self._run(work, seconds * (1 - _IN_QUEUE)))

    def find(self, provider: str, work_id: str) -> Work | None:
        """Return the work, whether it is over or not; None if there is none by that id."""
        return self._all.get((provider, work_id))

    def active(self, provider: str) -> list[Work]:
        """Return what a provider still works on."""
        return [work for work in self._under_way.values() if work.provider == provider]

    def cancel(self, work: Work, *, billed: bool = False) -> bool:
        """Stop work that is not over; False if it is."""
        if work.over:
            return False
        self._forget(work)
        self._close(work, State.CANCELLED, charged=billed)
        return True

    def finish(self, work: Work) -> None:
        """Let work be over now, as it would have ended; harmless if it is."""
        if not work.over:
            self._forget(work)
            work.started = work.started or time.time()
            self._end(work)

    def clear(self) -> None:
        """Stop and forget everything, its result links included."""
        for work in self._all.values():
            self._forget(work)
        self._all.clear()
        self._under_way.clear()

    def as_json(self) -> dict[str, object]:
        """Return all work, oldest first."""
        return {"count": len(self._all), "tasks": [work.as_json() for work in self._all.values()]}

    def _after(self, work: Work, seconds: float, step: Callable[[], None]) -> None:
        self._timers[work.id] = asyncio.get_running_loop().call_later(seconds, step)

    def _forget(self, work: Work) -> None:
        if timer := self._timers.pop(work.id, None):
            timer.cancel()
        if loading := self._loading.pop(work.id, None):
            loading.cancel()

    def _run(self, work: Work, seconds: float) -> None:
        work.state, work.started = State.RUNNING, time.time()
        if work.report:
            work.report(work)
        if work.fault("stuck"):
            return
        if work.load is None or work.doomed:
            self._after(work, seconds, lambda: self._end(work))
        else:
            self._loading[work.id] = asyncio.create_task(self._load(work, work.load, seconds))

    async def _load(self, work: Work, load: Callable[[], Awaitable[list[Source]]], seconds: float) -> None:
        try:
            work.sources = await load()
        except Unusable as unusable:
            work.doomed = Failure(Why.INPUT, str(unusable), unusable.code, field=unusable.field)
        self._loading.pop(work.id, None)
        self._after(work, seconds, lambda: self._end(work))

    def _end(self, work: Work) -> None:
        self._timers.pop(work.id, None)
        scripted = work.fault("task_error")
        if scripted:
            wanted = scripted.parameters
            work.doomed = Failure(Why.ERROR, wanted["message"], wanted["code"], scripted.billed)
        if work.doomed:
            work.failure = work.doomed
            self._close(work, State.FAILED, charged=work.doomed.billed)
            return
        if fewer := work.fault("fewer_results"):
            wanted_images = fewer.parameters["images"]
            work.pictures = work.pictures[: len(work.pictures) - 1 if wanted_images is None else wanted_images]
        if other := work.fault("wrong_format"):
            work.pictures = tuple(replace(p, output_format=other.parameters["format"]) for p in work.pictures)
        self._close(work, State.DONE, charged=bool(work.pictures))

    def _close(self, work: Work, state: State, *, charged: bool) -> None:
        self._under_way.pop((work.provider, work.id), None)
        work.state, work.finished = state, time.time()
        work.run_microseconds = 0 if work.started is None else round((work.finished - work.started) * 1_000_000)
        if charged:
            charge = work.price(work)
            work.nano_usd = charge.nano_usd
            self._bill.charge(
                BillLine(
                    provider=work.provider,
                    request=work.arrival.request,
                    at=work.finished,
                    model=work.model,
                    operation=work.operation,
                    n=len(work.pictures),
                    images=len(work.pictures) if state is State.DONE else 0,
                    size=work.size,
                    quality=work.quality,
                    usage=charge.usage,
                    nano_usd=charge.nano_usd,
                )
            )
        work.ended.set()
        if work.report:
            work.report(work)
