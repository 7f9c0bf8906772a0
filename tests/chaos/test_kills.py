"""Gateways and their store killed at random under load: what may never happen, and what must be true afterwards."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.checks import few
from tests.chaos.killer import Killer
from tests.chaos.policy import TIGHT, policy
from tests.chaos.trial import chosen_seed, trial

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of it. `pause` is seconds between kills."""

    kills: int
    requests: int
    lease: float
    pause: float

    @property
    def tight_limit(self) -> str:
        """USD that each tight job type may spend: about a third of what is asked of it."""
        return f"{max(0.3 * self.requests / TIGHT * 0.02 / 3, 0.2):.2f}"


SMALL = Scale(kills=20, requests=2_000, lease=4, pause=0.8)
FULL = Scale(kills=500, requests=100_000, lease=30, pause=1.6)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_twenty_kills(tmp_path: Path) -> None:
    """Twenty kills in two thousand requests break no limit, leak no hold and lose no cost."""
    await survive(tmp_path, SMALL)


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_five_hundred_kills(tmp_path: Path) -> None:
    """Five hundred kills in a hundred thousand requests break no limit, leak no hold and lose no cost."""
    await survive(tmp_path, FULL)


async def survive(directory: Path, scale: Scale) -> None:
    """Kill while clients ask, then hold the books against the bill and what clients were told."""
    seed, done = chosen_seed(), [0.0]
    rules = policy(scale.tight_limit)
    running = trial(directory, gateways=4, lease=scale.lease, seed=seed, policy=rules, progress=lambda: done[0])
    async with running as chaos:
        killer = Killer(chaos.fleet, seed, scale.pause, scale.lease)

        def enough() -> bool:
            done[0] = min(killer.killed / scale.kills, chaos.load.heard.sent / scale.requests)
            return done[0] >= 1

        async with chaos.under_load():
            await killer.run(enough)
            await killer.aclose()
        log.warning("kills %s, freezes %s", dict(killer.kills), dict(killer.freezes))
        wrong = [*await chaos.rest(), *few("over a limit", chaos.over)]
        fullest = await chaos.books.nearest()
        chaos.verdict([*wrong, *await chaos.audit()])
        assert fullest > 0.9, "no limit was ever near: the test proves nothing of limits"
