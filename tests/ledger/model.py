"""A plain model of the ledger, driven beside the real scripts on a real server by random histories."""

from __future__ import annotations

import asyncio
import copy as copies
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.domain.budget import Budget, Denied, Held, Pressure, Quota, Scope, Window
from gateway.domain.route import Views
from gateway.domain.settlement import Adjustment, CostSource, SettleResult
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.ledger import rules
from tests.ledger.older import Copy, copy, resynced

LIMIT, DAILY, IMAGES, FLIGHT = 1000, 800, 60, 6
STEP = 4_000
TOTAL = rules.budget(LIMIT)
DAY = rules.budget(DAILY, Window.DAY, scope=Scope(project="p"))
QUOTA = rules.images(IMAGES, 86_400)
LIVE = rules.concurrent(FLIGHT)
Lines = tuple[tuple[Budget | Quota, int], ...]


@dataclass
class Kept:
    """A hold as the model has it. `told` is what its owner booked by ending it; None until it did."""

    owner: int
    amount: int
    n: int
    day: str
    state: str = "live"
    booked: int = 0
    told: int | None = None
    unbooked: bool = True

    @property
    def late(self) -> SettleResult:
        """What a settlement says that corrects how it ended."""
        return SettleResult.FIRST if self.unbooked else SettleResult.LATE

    @property
    def live(self) -> bool:
        """Whether it is still held."""
        return self.state == "live"

    def end(self, state: str, booked: int, *, by_owner: bool) -> None:
        """It ended, or was corrected."""
        self.state, self.booked = state, booked
        self.unbooked = self.unbooked and state == "guessed"
        self.told = booked if by_owner else self.told


class LedgerModel(RuleBasedStateMachine):
    """Two gateways on one store; the server must agree with the model after every step.

    `shift` sets the server's clock to so many seconds from now; None where its clock cannot be set.
    """

    server = ""
    shift: Callable[[int], None] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.realm = secrets.token_hex(6)
        self.store = self.do(self._open())
        self.serial = 0
        self.gateways: dict[int, RedisLedger] = {}
        self.kept: dict[str, Kept] = {}
        self.saved: tuple[Copy, dict[str, Kept]] | None = None
        self.forgotten: list[RedisLedger] = []
        for _ in range(2):
            self._start()
        self.count = 0
        self._set_clock(0)

    async def _open(self) -> Store:
        return Store(self.server, deadline=10, patience=30)

    def _start(self) -> None:
        ledger = RedisLedger(self.store, self.realm, lease=1000)
        self.do(ledger.open())
        self.gateways[self.serial] = ledger
        self.serial += 1

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run on this example's own loop."""
        return self.runner.run(work)

    def _set_clock(self, seconds: int) -> None:
        shift = type(self).shift
        if shift is not None:
            shift(seconds)
            while abs(self._now() - time.time() - seconds) > 5:
                pass  # the server looks at its clock now and then
        self.day = datetime.fromtimestamp(self._now(), UTC).date().isoformat()

    def _now(self) -> int:
        seconds, _ = self.do(self.store.execute("TIME"))
        return int(seconds)

    def _lines(self, amount: int, n: int) -> Lines:
        money: Lines = ((TOTAL, amount), (DAY, amount))
        return (*money, (LIVE, 1)) if type(self).shift is not None else (*money, (QUOTA, n), (LIVE, 1))

    def _held(self, day: str | None = None) -> int:
        return sum(kept.amount for kept in self.kept.values() if kept.live and day in (None, kept.day))

    def _spent(self, day: str | None = None) -> int:
        return sum(kept.booked for kept in self.kept.values() if day in (None, kept.day))

    def _images(self) -> int:
        return sum(kept.n for kept in self.kept.values() if kept.state != "void")

    def _affordable(self, amount: int) -> bool:
        today = self._spent(self.day) + self._held(self.day)
        return self._spent() + self._held() + amount <= LIMIT and today + amount <= DAILY

    def _rung(self, amounts: list[int], n: int) -> int | None:
        """Which of two rungs takes it: the first until a budget is used to STEP or has no room, then the second."""
        today = self._spent(self.day) + self._held(self.day)
        beyond = max((self._spent() + self._held()) * DAILY, today * LIMIT) * 10_000 >= STEP * LIMIT * DAILY
        if not beyond and self._fits(amounts[0], n):
            return 0
        return 1 if (beyond or not self._affordable(amounts[0])) and self._fits(amounts[1], n) else None

    def _fits(self, amount: int, n: int) -> bool:
        return (
            self._affordable(amount)
            and (type(self).shift is not None or self._images() + n <= IMAGES)
            and sum(kept.live for kept in self.kept.values()) + 1 <= FLIGHT
        )

    def _pick(self, data: st.DataObject, wanted: Callable[[Kept], bool]) -> tuple[str, Kept, RedisLedger] | None:
        """A hold of this kind, and the gateway that speaks for it: its owner, or another one if that is dead."""
        names = [name for name, kept in self.kept.items() if wanted(kept)]
        if not names:
            return None
        name = data.draw(st.sampled_from(sorted(names)))
        kept = self.kept[name]
        speaker = kept.owner if kept.owner in self.gateways else data.draw(st.sampled_from(sorted(self.gateways)))
        return name, kept, self.gateways[speaker]

    @rule(data=st.data(), amount=st.integers(0, 300), n=st.integers(1, 10), repeat=st.booleans())
    def hold(self, data: st.DataObject, amount: int, n: int, repeat: bool) -> None:
        """Ask for a hold, perhaps twice with one token; admitted exactly if the model says that it fits."""
        owner = data.draw(st.sampled_from(sorted(self.gateways)))
        request, token, fits = f"r{self.count}", secrets.token_hex(4), self._fits(amount, n)
        self.count += 1
        offer = rules.candidate(*self._lines(amount, n), worst=amount * 1000)
        for _ in range(1 + repeat):
            asked = self.gateways[owner].choose_and_hold(request, [offer], about=rules.ABOUT, token=token)
            assert isinstance(self.do(asked), Held if fits else Denied)
        if fits:
            self.kept[request] = Kept(owner, amount, n, self.day)

    @rule(data=st.data(), amount=st.integers(0, 300), n=st.integers(1, 10), repeat=st.booleans())
    def hold_on_a_ladder(self, data: st.DataObject, amount: int, n: int, repeat: bool) -> None:
        """Ask for a hold that is to be cheaper from a share of use on; it is taken on the rung that the model says."""
        owner = data.draw(st.sampled_from(sorted(self.gateways)))
        amounts = [amount, amount // 2]
        request, token, rung = f"r{self.count}", secrets.token_hex(4), self._rung(amounts, n)
        self.count += 1
        ranges = (Pressure(0, STEP), Pressure(STEP))
        pairs = zip(amounts, ranges, strict=True)
        offers = [
            replace(rules.candidate(*self._lines(each, n), worst=each * 1000), pressure=within)
            for each, within in pairs
        ]
        for _ in range(1 + repeat):
            answer = self.do(self.gateways[owner].choose_and_hold(request, offers, about=rules.ABOUT, token=token))
            assert (answer.index if isinstance(answer, Held) else None) == rung
        if rung is not None:
            self.kept[request] = Kept(owner, amounts[rung], n, self.day)

    @rule(data=st.data(), part=st.integers(0, 1500), repeat=st.booleans())
    def settle(self, data: st.DataObject, part: int, repeat: bool) -> None:
        """The owner settles a hold of its own, at a part of it or now and then at more; late if it had lapsed."""
        picked = self._pick(data, lambda kept: kept.owner in self.gateways and kept.told is None)
        if picked is None:
            return
        request, kept, gateway = picked
        token, nano = secrets.token_hex(4), kept.amount * part
        right = SettleResult.DONE if kept.live else kept.late
        for _ in range(1 + repeat):
            assert self.do(gateway.settle(rules.settlement(request, nano), token=token)) is right
        kept.end("settled", -(-nano // 1000), by_owner=True)

    @rule(data=st.data(), saved=st.integers(0, 200))
    def presume(self, data: st.DataObject, saved: int) -> None:
        """The owner books the worst case or less, unconfirmed; less takes the place of what is presumed already, and
        all of it that of nothing, where somebody took the call for never sent.
        """
        picked = self._pick(
            data, lambda kept: kept.owner in self.gateways and (kept.told is None or kept.state == "presumed")
        )
        if picked is None:
            return
        request, kept, gateway = picked
        guessed = max(kept.amount - saved, 0)
        better = guessed < kept.booked or kept.state == "guessed"
        lower = kept.late if better else SettleResult.SAME
        guess = rules.settlement(request, guessed * 1000, source=CostSource.PRESUMED)
        assert self.do(gateway.settle(guess)) is (SettleResult.DONE if kept.live else lower)
        kept.end("presumed", guessed if kept.live or better else kept.booked, by_owner=True)

    @rule(data=st.data())
    def guess(self, data: st.DataObject) -> None:
        """Somebody takes a call for never sent, and gives back what is held for it."""
        picked = self._pick(data, lambda kept: kept.told is None and kept.state in ("live", "presumed"))
        if picked is None:
            return
        request, kept, _ = picked
        gateway = self.gateways[data.draw(st.sampled_from(sorted(self.gateways)))]
        reason = data.draw(st.sampled_from(["cancelled", "not_begun"]))
        right = SettleResult.DONE if kept.live else SettleResult.LATE
        assert self.do(gateway.void(request, 1, reason)) is right
        kept.n = 0 if kept.live else kept.n
        kept.end("guessed", 0, by_owner=False)
        self.saved = None  # whether a loss of this is healed depends on who guessed: not this model's question

    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        """The owner gives a hold back."""
        picked = self._pick(data, lambda kept: kept.owner in self.gateways and kept.live)
        if picked is None:
            return
        request, kept, gateway = picked
        assert self.do(gateway.void(request, 1, "refused")) is SettleResult.DONE
        kept.end("void", 0, by_owner=True)

    @rule(data=st.data(), nano=st.integers(0, 400_000))
    def learn(self, data: st.DataObject, nano: int) -> None:
        """The truth about a cost of a dead gateway that was presumed, or given back by a guess, arrives."""
        wanted = ("presumed", "guessed")
        picked = self._pick(data, lambda kept: kept.owner not in self.gateways and kept.state in wanted)
        if picked is None:
            return
        request, kept, gateway = picked
        assert self.do(gateway.settle(rules.settlement(request, nano))) is kept.late
        kept.end("settled", -(-nano // 1000), by_owner=False)
        self.saved = None  # whether a loss of this is healed depends on who learnt it: not this model's question

    @rule(data=st.data(), nano=st.integers(0, 400_000))
    def adjust(self, data: st.DataObject, nano: int) -> None:
        """An invoice corrects what was booked, once."""
        picked = self._pick(
            data, lambda kept: not kept.live and (kept.told is not None or kept.owner not in self.gateways)
        )
        if picked is None:
            return
        request, kept, gateway = picked
        adjustment = Adjustment(secrets.token_hex(4), request, 1, Views(nano, nano, nano), "invoice")
        for right in (SettleResult.DONE, SettleResult.SAME):
            assert self.do(gateway.adjust(adjustment)) is right
        images = kept.n if kept.state == "void" else 0
        kept.end("settled", -(-nano // 1000), by_owner=False)
        kept.n -= images
        self.saved = None  # nobody repeats an adjustment: it is applied again by whoever has the invoice

    @rule(data=st.data())
    def lapse(self, data: st.DataObject) -> None:
        """Every lease runs out, as if all were frozen; any gateway ends what lapsed."""
        gateway = self.gateways[data.draw(st.sampled_from(sorted(self.gateways)))]
        for member in self.do(self.store.execute("ZRANGE", gateway._names.due, 0, -1)):
            self.do(self.store.execute("ZADD", gateway._names.due, "XX", 1, member))
        self.do(gateway._leases.sweep())
        for kept in self.kept.values():
            if kept.live:
                kept.end("presumed", kept.amount, by_owner=False)

    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A gateway dies with all it knows, and another one starts."""
        serial = data.draw(st.sampled_from(sorted(self.gateways)))
        self.forgotten.append(self.gateways.pop(serial))
        self._start()

    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """What has ended by its owner's word stays as it is."""
        picked = self._pick(data, lambda kept: kept.state in ("settled", "void"))
        if picked is None:
            return
        request, _, gateway = picked
        assert self.do(gateway.settle(rules.settlement(request, 5))) is SettleResult.SAME
        assert self.do(gateway.void(request, 1, "again")) is SettleResult.SAME

    @rule()
    def flush_scripts(self) -> None:
        """The server forgets its scripts."""
        self.do(self.store.execute("SCRIPT", "FLUSH"))

    @rule()
    def save(self) -> None:
        """The server's state of this moment is kept, as a replica or a copy would."""
        self.saved = (copy(self.server, self.realm), copies.deepcopy(self.kept))

    @precondition(lambda self: self.saved is not None)
    @rule()
    def lose(self) -> None:
        """All writes since are lost. Living gateways tell theirs again; what only dead ones knew is gone."""
        assert self.saved is not None
        store, known = self.saved
        store.put_back()
        for gateway in self.gateways.values():
            self.do(gateway._leases.renew())
            self.do(resynced(gateway))
        self.kept = {
            name: after
            for name, now in self.kept.items()
            if (after := self._after_loss(copies.copy(known.get(name)), now)) is not None
        }
        self.saved = None

    def _after_loss(self, old: Kept | None, now: Kept) -> Kept | None:
        if now.owner not in self.gateways:
            return old
        if now.told is not None:
            absent = old is None and now.state == "void"
            return None if absent else now
        if old is not None and not old.live:
            return old
        return Kept(now.owner, now.amount, now.n, now.day)

    @precondition(lambda self: type(self).shift is not None)
    @rule(hours=st.integers(-200, 400))
    def jump(self, hours: int) -> None:
        """The server's clock is set, forwards or back."""
        self._set_clock(hours * 3600)

    @invariant()
    def agrees(self) -> None:
        """Balances are what the model has."""
        gateway = next(iter(self.gateways.values()))
        total, day, images, live = self.do(gateway.balances([TOTAL, DAY, QUOTA, LIVE]))
        assert (total.used, total.held) == (self._spent(), self._held())
        assert (day.used, day.held) == (self._spent(self.day), self._held(self.day))
        assert live.held == sum(kept.live for kept in self.kept.values())
        if type(self).shift is None:
            assert images.used == self._images()

    def teardown(self) -> None:
        """At the end, the entries alone give every balance."""
        totals = self.do(rules.spent_by_entries(self.store, self.realm))
        balances = self.do(rules.balances(self.store, self.realm))
        assert {field: spent for field, (spent, _) in balances.items() if spent} == {
            field: spent for field, spent in totals.items() if spent
        }
        for gateway in (*self.gateways.values(), *self.forgotten):
            self.do(gateway.aclose())
        self.do(self.store.aclose())
        self.runner.close()
