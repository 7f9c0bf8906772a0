"""Flights: those of one process that are under way, each in the task of its request until its client takes the answer.

The rest of a flight whose answer is long, or is to be kept for others, goes on in a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from gateway.observe.deferred_events import TOGETHER_SECONDS
from gateway.ports import Inbound, Outbound
from gateway.ports.provider import Provider
from gateway.request.context import FlightContext
from gateway.request.duplicates import Shared
from gateway.request.exchange import Admitted
from gateway.request.flight import Flight, Rest
from gateway.request.relay import Relay


class Flights:
    """Knows what runs. Only `drain` cuts a flight short; its client leaves it to itself."""

    def __init__(self, context: FlightContext) -> None:
        self._context = context
        self.running: dict[Flight, asyncio.Task[Any] | None] = {}
        """Those under way, with the task that each is in; None between two."""
        self._changed: asyncio.Event | None = None

    async def take_off(
        self, inbound: Inbound, admitted: Admitted, providers: Mapping[str, Provider], shared: Shared | None
    ) -> Outbound:
        """Run a request until its answer begins, and return that; raises the error otherwise."""
        relay = Relay()
        flight = Flight(admitted, self._context, providers, relay, shared)
        task = inbound.spare(relay.leave) or asyncio.current_task()
        assert task is not None
        self._enter(flight, task)
        rest: Rest | None = None
        try:
            rest = await flight.take_off()
        except asyncio.CancelledError:
            if not relay.answered:
                raise
            task.uncancel()  # by `drain`: what was cut short is told to the client as any other error
        except Exception:
            if not relay.answered:
                raise
        finally:
            if rest is None:
                self._landed(flight)
        if rest is not None:
            self._enter(flight, None)
            asyncio.create_task(self._go_on(flight, rest)).add_done_callback(_heard)
        return relay.outbound(over=rest is None)

    async def _go_on(self, flight: Flight, rest: Rest) -> None:
        self._enter(flight, asyncio.current_task())
        try:
            await rest()
        finally:
            self._landed(flight)

    def _enter(self, flight: Flight, task: asyncio.Task[Any] | None) -> None:
        self.running[flight] = task
        if self._changed is not None:
            self._changed.set()

    def _landed(self, flight: Flight) -> None:
        if flight.shared is not None:
            flight.landed()
        del self.running[flight]
        if self._changed is not None:
            self._changed.set()

    async def drain(self, seconds: float) -> int:
        """Wait for what runs; the rest is presumed spent after `seconds`, and counted, and so is what comes later."""
        changed = self._changed = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.running:
                    changed.clear()
                    await changed.wait()
        cut: set[Flight] = set()
        while self.running:
            for flight, task in self.running.items():
                if task is not None and flight not in cut:  # one that is about to go on would end nothing now
                    cut.add(flight)
                    task.cancel()
            changed.clear()
            await changed.wait()
        await asyncio.sleep(2 * TOGETHER_SECONDS)  # until all of it is counted: the pulse tells its last soon
        return len(cut)


def _heard(task: asyncio.Task[None]) -> None:
    """Take note of how a task ended: what there is to say of it was logged and answered where it arose."""
    if not task.cancelled():
        task.exception()
