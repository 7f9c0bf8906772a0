"""Calls that are made ready while the hold on them is under way, on a real ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.budget import Budget, Counted, Denied, Held, Scope, Window
from gateway.domain.errors import BudgetExceeded
from gateway.domain.idempotency import Bound
from gateway.domain.job import Operation
from gateway.domain.policy import Retry
from gateway.domain.settlement import Outcome
from gateway.ledger.deferred import DeferredSettlements
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ports import Body, Inbound
from gateway.ports.provider import Answer, Call, UpstreamFailure
from gateway.request.admission import AdmissionState
from tests.builders import route
from tests.rig import Got, Painter, Rig, rigged, team
from tests.steps.test_classify import FieldsOnly
from tests.test_waiting import Small

ASKED = {"prompt": "a cat", "size": "1024x1024", "quality": "low"}


@dataclass
class Ready(Painter):
    """A provider that writes down which calls were made ready, and which were sent."""

    ready: list[Call] = field(default_factory=list)
    sent: list[Call] = field(default_factory=list)

    def prepare(self, call: Call) -> None:
        """Make it ready."""
        self.ready.append(call)

    async def send(self, call: Call) -> Answer:
        """Take the call."""
        self.sent.append(call)
        return await super().send(call)


@dataclass
class Short(FieldsOnly):
    """A body that is short, and like others."""

    likeness: Any = 1


def painting(rig: Rig) -> Ready:
    """Let the provider of a gateway be one that can make calls ready; it answers at once."""
    rig.painter = painter = Ready()
    painter.go_on.set()
    return painter


async def ask(rig: Rig, fields: Mapping[str, object] | None = None, *, short: bool = True) -> Got:
    """Make one request."""
    body = (Short if short else FieldsOnly)(fields or ASKED)

    async def read_body() -> Body:
        return body

    rig.numbers[0] += 1
    headers, request_id = {"authorization": "Bearer team/key_1"}, f"req_{rig.numbers[0]:032x}"
    return await rig.ask(Inbound(request_id, Operation.GENERATE, None, headers, read_body, time.monotonic()))


async def test_the_call_that_was_made_ready_is_sent(tmp_path: Path) -> None:
    """It is made once, and is ready when the hold is there."""
    async with rigged(tmp_path) as rig:
        painter = painting(rig)
        assert (await ask(rig)).status == 200
        assert len(painter.ready) == 1
        assert [call is painter.ready[0] for call in painter.sent] == [True]


async def test_another_route_gets_a_call_of_its_own(tmp_path: Path) -> None:
    """Where the hold was taken on the second route, nothing of what was made ready for the first is sent."""
    async with rigged(tmp_path) as rig:
        rig.admissions = AdmissionState(capacity=Small({"main": (Counted.IMAGES, 1, 60)}))
        rig.lifecycle, painter = rig.open(DeferredSettlements(rig.ledger)), painting(rig)
        assert [(await ask(rig)).header("X-Gateway-Route") for _ in range(2)] == ["main", "spare"]
        assert [call.route.name for call in painter.ready] == ["main", "main"]
        assert [call.route.name for call in painter.sent] == ["main", "spare"]
        assert painter.sent[1] not in painter.ready


async def test_a_refused_request_sends_nothing(tmp_path: Path) -> None:
    """Its call may have been made ready; nothing comes of it, and nothing stays held."""
    poor = Budget(Scope(), Window.TOTAL, 10)
    async with rigged(tmp_path, team(budget=poor)) as rig:
        painter = painting(rig)
        with pytest.raises(BudgetExceeded):
            await ask(rig)
        assert painter.sent == []
        assert await rig.spent() == (0, 0)


async def test_a_repeat_is_made_ready_by_itself(tmp_path: Path) -> None:
    """The route after one that failed gets the call of its own quote."""
    async with rigged(tmp_path, team(retry=Retry(attempts=2))) as rig:
        painter = painting(rig)
        painter.script.append(UpstreamFailure(Outcome.REJECTED, "status_5xx", "the provider answered 500"))
        assert (await ask(rig)).status == 200
        assert [call.route.name for call in painter.sent] == ["main", "spare"]
        assert painter.ready == painter.sent


async def test_what_is_not_short_is_not_made_ready(tmp_path: Path) -> None:
    """A body that may lie on disk, and a job that takes several calls, wait for their hold."""
    one_each = route("main", capabilities=replace(route("main").capabilities, n=1))
    several = team()
    kind = replace(several.job_types["draft"], routes=(one_each,))
    several = replace(several, routes={"main": one_each}, job_types={"draft": kind})
    async with rigged(tmp_path, several) as rig:
        painter = painting(rig)
        assert (await ask(rig, short=False)).status == 200
        await ask(rig, {**ASKED, "n": 2})
        assert [call.calls for call in painter.sent] == [1, 2]
        assert painter.ready == []


class Silent(RedisLedger):
    """A ledger that calls nobody while it is asked."""

    async def choose_and_hold(self, *arguments: Any, **options: Any) -> Held | Denied | Bound:
        """Hold."""
        del options["meanwhile"]
        return await super().choose_and_hold(*arguments, **options)


async def test_a_ledger_that_has_nobody_do_anything_meanwhile(tmp_path: Path) -> None:
    """The call is made when it is sent."""
    async with rigged(tmp_path) as rig:
        rig.ledger = Silent(rig.store)
        rig.lifecycle, painter = rig.open(DeferredSettlements(rig.ledger)), painting(rig)
        assert (await ask(rig)).status == 200
        assert (len(painter.ready), len(painter.sent)) == (0, 1)
