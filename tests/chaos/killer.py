"""Whoever kills: a process at random, again and again, by a seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.fleet import Fleet, Program

STORE_SHARE, FREEZE_SHARE = 0.15, 0.04
"""Of all that is done: to the store rather than to a gateway; freezing rather than killing."""
LONGEST_STORE_FREEZE = 1.5
"""Seconds."""


@dataclass
class Killer:
    """Kills every `pause` seconds on average; frozen gateways sleep for longer than `lease` seconds."""

    fleet: Fleet
    seed: int
    pause: float
    lease: float
    kills: Counter[str] = field(default_factory=Counter)
    freezes: Counter[str] = field(default_factory=Counter)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def killed(self) -> int:
        """How many processes were killed so far."""
        return sum(self.kills.values())

    async def run(self, enough: Callable[[], bool]) -> None:
        """Go on until `enough`."""
        choose = random.Random(self.seed)
        while not enough():
            await asyncio.sleep(choose.expovariate(1 / self.pause))
            victims = [self.fleet.store] if choose.random() < STORE_SHARE else self.fleet.gateways
            victim: Program = choose.choice(victims)
            if choose.random() < FREEZE_SHARE:
                longest = LONGEST_STORE_FREEZE if victim is self.fleet.store else 1.5 * self.lease
                self._freeze(victim, choose.uniform(0.2, 1) * longest)
            elif victim.alive:
                victim.kill()
                self.kills[victim.name] += 1

    def _freeze(self, victim: Program, seconds: float) -> None:
        if not victim.alive or any(program.frozen for program in self.fleet.programs):
            return
        victim.freeze()
        self.freezes[victim.name] += 1
        task = asyncio.create_task(self._thaw(victim, seconds))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _thaw(self, victim: Program, seconds: float) -> None:
        await asyncio.sleep(seconds)
        victim.thaw()

    async def aclose(self) -> None:
        """Let everything go on that is frozen."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for program in self.fleet.programs:
            program.thaw()
