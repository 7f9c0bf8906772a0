"""The ledger against a plain model of it: whatever the order of events, the books are right."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from gateway.domain.budget import Denied, Held, Scope, Window
from gateway.domain.settlement import CostSource, SettleResult
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger import rules

LIMIT, DAILY, IMAGES, FLIGHT = 1000, 800, 60, 6
TOTAL = rules.budget(LIMIT)
DAY = rules.budget(DAILY, Window.DAY, scope=Scope(project="p"))
QUOTA = rules.images(IMAGES, 86_400)
LIVE = rules.concurrent(FLIGHT)


class LedgerModel(RuleBasedStateMachine):
    """Keeps what each hold holds and what was spent; the server must agree after every step."""

    server = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.realm = secrets.token_hex(6)
        self.store = self.runner.run(self._open())
        self.ledger = RedisLedger(self.store, self.realm, lease=0.001)
        self.live: dict[str, tuple[int, int]] = {}
        self.presumed: dict[str, int] = {}
        self.over: set[str] = set()
        self.images = 0
        self.spent = 0
        self.count = 0

    async def _open(self) -> Store:
        return Store(self.server, deadline=10, patience=30)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run on this example's own loop."""
        return self.runner.run(work)

    @rule(amount=st.integers(0, 300), n=st.integers(1, 10), repeat=st.booleans())
    def hold(self, amount: int, n: int, repeat: bool) -> None:
        """Ask for a hold, perhaps twice with one token; admitted exactly if the model says that it fits."""
        request, token = f"r{self.count}", secrets.token_hex(4)
        self.count += 1
        held = sum(amount for amount, _ in self.live.values())
        fits = (
            self.spent + held + amount <= min(LIMIT, DAILY)
            and self.images + n <= IMAGES
            and len(self.live) + 1 <= FLIGHT
        )
        offer = rules.candidate((TOTAL, amount), (DAY, amount), (QUOTA, n), (LIVE, 1))
        for _ in range(1 + repeat):
            answer = self.do(self.ledger.choose_and_hold(request, [offer], about=rules.ABOUT, token=token))
            assert isinstance(answer, Held if fits else Denied)
        if fits:
            self.live[request] = (amount, n)
            self.images += n

    @precondition(lambda self: self.live)
    @rule(data=st.data(), part=st.integers(0, 1500))
    def settle(self, data: st.DataObject, part: int) -> None:
        """Settle a live hold at a part of it, or now and then at more."""
        request = data.draw(st.sampled_from(sorted(self.live)))
        amount, _ = self.live.pop(request)
        nano = amount * part
        result = self.do(self.ledger.settle(rules.settlement(request, nano)))
        assert result is SettleResult.DONE
        self.spent += -(-nano // 1000)
        self.over.add(request)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def presume(self, data: st.DataObject) -> None:
        """Settle a live hold at its worst case, unconfirmed."""
        request = data.draw(st.sampled_from(sorted(self.live)))
        amount, _ = self.live.pop(request)
        guess = rules.settlement(request, amount * 1000, source=CostSource.PRESUMED)
        assert self.do(self.ledger.settle(guess)) is SettleResult.DONE
        self.presumed[request] = amount
        self.spent += amount

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """Give a live hold back."""
        request = data.draw(st.sampled_from(sorted(self.live)))
        _, n = self.live.pop(request)
        assert self.do(self.ledger.void(request, 1, "refused")) is SettleResult.DONE
        self.images -= n
        self.over.add(request)

    @precondition(lambda self: self.live)
    @rule()
    def lapse(self) -> None:
        """Every gateway dies: all that is live becomes presumed spent."""
        self.do(asyncio.sleep(0.003))
        self.do(self.ledger._leases.sweep())
        for request, (amount, _) in self.live.items():
            self.presumed[request] = amount
            self.spent += amount
        self.live.clear()

    @precondition(lambda self: self.presumed)
    @rule(data=st.data(), nano=st.integers(0, 400_000), paid=st.booleans())
    def learn(self, data: st.DataObject, nano: int, paid: bool) -> None:
        """The truth about a presumed cost arrives: so much, or nothing."""
        request = data.draw(st.sampled_from(sorted(self.presumed)))
        booked = self.presumed.pop(request)
        if paid:
            result = self.do(self.ledger.settle(rules.settlement(request, nano)))
            self.spent += -(-nano // 1000) - booked
        else:
            result = self.do(self.ledger.void(request, 1, "never billed"))
            self.spent -= booked
        assert result is SettleResult.LATE
        self.over.add(request)

    @precondition(lambda self: self.over)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """What has ended stays as it is."""
        request = data.draw(st.sampled_from(sorted(self.over)))
        assert self.do(self.ledger.settle(rules.settlement(request, 5))) is SettleResult.SAME
        assert self.do(self.ledger.void(request, 1, "again")) is SettleResult.SAME

    @rule()
    def flush_scripts(self) -> None:
        """The server forgets its scripts."""
        self.do(self.store.execute("SCRIPT", "FLUSH"))

    @invariant()
    def agrees(self) -> None:
        """Balances are what the model has."""
        held = sum(amount for amount, _ in self.live.values())
        total, day, images, live = self.do(self.ledger.balances([TOTAL, DAY, QUOTA, LIVE]))
        assert (total.used, total.held) == (day.used, day.held) == (self.spent, held)
        assert (images.used, live.held) == (self.images, len(self.live))

    def teardown(self) -> None:
        """At the end, the entries alone give every balance."""
        totals = self.do(rules.spent_by_entries(self.store, self.realm))
        balances = self.do(rules.balances(self.store, self.realm))
        assert {field: spent for field, (spent, _) in balances.items() if spent} == {
            field: spent for field, spent in totals.items() if spent
        }
        self.do(self.store.aclose())
        self.runner.close()


def test_the_ledger_agrees_with_its_model(server: str) -> None:
    """Random histories of holds, settlements, lapses, repeats and forgotten scripts leave both with the same books."""
    LedgerModel.server = server
    run_state_machine_as_test(
        LedgerModel,
        settings=settings(
            max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
