"""Work that goes on elsewhere is settled by the prices that it was held on, whatever policy says of them by then."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from gateway.domain.job import Operation
from gateway.domain.policy import JobType, Project
from gateway.domain.responses import TextRates
from gateway.domain.route import Quote, Views
from gateway.domain.settlement import Reading, Usage
from gateway.domain.task import TaskRecord, TaskStatus
from gateway.domain.task_profile import TaskProfile
from gateway.ports import Inbound
from gateway.ports.provider import Submitted
from gateway.request.exchange import Admitted, Exchange
from gateway.responses.terms import quote_of, terms_of
from gateway.steps.price import price
from gateway.steps.rank import Ranked
from gateway.steps.settle import settle
from gateway.tasks.recovery import earlier_attempts
from gateway.tasks.submissions import NotedInQueue, settled_by
from tests.builders import GPT_IMAGE_2, PROVIDER, TODAY, job, policy, route
from tests.ledger.work import new_request, order
from tests.providers.calls import MemoryBody
from tests.test_conversation_cost import quote as of_conversation

[OLD] = GPT_IMAGE_2.prices
OWN = replace(OLD, multiplier=Fraction(1, 3))
DEARER = replace(OLD, multiplier=Fraction(50))
LATER = replace(DEARER, valid_from=TODAY)
HELD = Views(40, 30, 60)


@pytest.mark.parametrize("now", [DEARER, LATER])
def test_a_response_is_settled_by_the_rows_it_was_held_on(now: Any) -> None:
    """Also where policy has a row of the same date, or none of that date any more."""
    held = replace(of_conversation(), official_price=OLD, route_price=OWN)
    rules = policy(route("main", replace(GPT_IMAGE_2, prices=(now,))))
    found = quote_of(json.loads(json.dumps(terms_of(1, held, Fraction(2)))), rules)
    assert found is not None
    assert (found.official_price, found.route_price) == (replace(OLD, source=""), replace(OWN, source=""))


def test_terms_of_an_older_version_are_read() -> None:
    """It kept the dates of the rows, and three rates of the text model: they are kept still, for it to read."""
    quote = of_conversation()
    assert quote.text is not None
    rates, terms = quote.text.price.rates, terms_of(1, quote, Fraction(1))
    older = {name: value for name, value in terms.items() if name not in ("rows", "rates")}
    found = quote_of(older, policy(route("main")))
    assert found is not None
    assert found.text is not None
    known = TextRates(rates.text_in, rates.text_in_cached, rates.text_in, rates.text_out)
    assert (found.route_price, found.text.price.rates) == (OLD, known)
    assert quote_of(older, policy(route("main", replace(GPT_IMAGE_2, prices=(LATER,))))) is None


class Queue:
    """Stands for the queue: keeps what is noted."""

    def __init__(self) -> None:
        self.noted: dict[int, Any] = {}

    async def submitted(self, _task: str, number: int, told: Any, *, attempt: int) -> None:
        """Keep it as JSON does."""
        assert attempt == 2
        self.noted[number] = json.loads(json.dumps(told))


def taken_over(noted: dict[int, Any]) -> Quote:
    """What another gateway settles a task's call by, whose policy is fifty times as dear and has another multiplier."""
    account = replace(PROVIDER, kind="task", profile=TaskProfile())
    way = route("main", replace(GPT_IMAGE_2, prices=(DEARER,)), provider=account)
    kind, project = JobType("draft", (way,)), Project("team", ("draft",), "draft", multiplier=Fraction(7))
    asked, body = job(quality="low", size="1024x1024"), MemoryBody({})
    quotes, _ = price(asked, kind, project, None, TODAY)
    exchange = Exchange(Inbound("req_x", Operation.GENERATE, None, {}, _never_read, 0.0))
    rules = replace(policy(way), providers={account.name: account})
    admitted = Admitted(exchange, None, project, asked, kind, rules, Ranked(quotes, ()), body, TODAY)  # type: ignore[arg-type]  # nobody asks who calls
    record = TaskRecord(order(new_request()), TaskStatus.PROCESSING, attempt=2, submitted=noted)
    worst = {"official": str(HELD.official), "route": str(HELD.route), "internal": str(HELD.internal)}
    went = {"route": "main", "provider": account.name, "upstream_model": way.upstream_model}
    facts = {**went, "price_from": OLD.valid_from.isoformat(), "worst": worst}
    found = earlier_attempts(record, {"attempts": [{"attempt": 2, "state": "sent", "facts": facts}]})
    assert found is not None
    admitted = found.carried_on(admitted)
    resumed = found.resumed(admitted, TODAY, record.order.not_after)
    assert resumed is not None
    assert resumed.quote.worst == HELD
    assert admitted.project.multiplier == 7  # should the call come to nothing, the next one is held by it
    return resumed.quote


async def test_a_task_is_settled_by_the_rows_it_was_held_on() -> None:
    """They are noted with what the provider took on, and so is the project's multiplier."""
    queue: Any = Queue()
    noted = NotedInQueue(queue, "task_x", "token")
    noted.begin(2, lambda: settled_by(OLD, OWN, Fraction(3, 2)))
    await noted.note(0, Submitted("work_1"))
    quote = taken_over(queue.noted)
    assert (quote.official_price, quote.route_price) == (replace(OLD, source=""), replace(OWN, source=""))
    assert internal_cost(quote) == 30_000 * OWN.multiplier * Fraction(3, 2)


def test_a_task_of_an_older_version_is_settled_by_policy() -> None:
    """Nothing was noted of its prices; what was held is on record."""
    quote = taken_over({0: {"id": "work_1"}})
    assert quote.route_price == DEARER
    assert internal_cost(quote) == 30_000 * DEARER.multiplier * 7


def internal_cost(quote: Quote) -> int:
    """What the project pays for a token of the image, where its multiplier is 7 by now."""
    said = Reading(usage=Usage(image_out=1), images=1, complete=True)
    believed = replace(quote, worst=Views(10**9, 10**9, 10**9))
    return settle("r", 2, believed, said, Fraction(7)).cost.internal


async def _never_read() -> Any:
    raise AssertionError
