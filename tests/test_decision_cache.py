"""Decision cache: what is remembered of requests never changes what one of them comes to."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.caller import Caller
from gateway.domain.errors import GatewayError
from gateway.domain.job import Operation, Wishes
from gateway.domain.policy import Experiment, JobType, Policy, Project
from gateway.domain.route import Route
from gateway.ports import Body, Inbound
from gateway.ports.provider import Conditions
from gateway.request.exchange import Admitted, Exchange
from gateway.steps.accept import accept
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from tests import builders
from tests.builders import TODAY
from tests.decisions import golden
from tests.rig import planner
from tests.web.recording import in_pieces

LIMITS = BodyLimits()
CALLER = Caller("key_1", "team")
FREE = {"prompt": "a red apple", "size": "1024x1024", "quality": "low"}

Told = tuple[object, ...]


async def body_of(fields: Mapping[str, object]) -> Body:
    """The fields as a JSON body, read by the gateway's reader, which has seen one like it."""
    data = json.dumps(fields).encode()
    await read_json(in_pieces(data), LIMITS)
    return await read_json(in_pieces(data), LIMITS)


async def come_to(
    policy: Policy,
    fields: Mapping[str, object],
    *,
    wishes: Wishes | None = None,
    caller: Caller = CALLER,
    day: date = TODAY,
    path_model: str | None = None,
    conditions: Conditions | None = None,
) -> Told:
    """All that a generation comes to: its job and job type, its quotes and why not others, its record; or the error."""
    body = await body_of(fields)

    async def read() -> Body:
        return body

    inbound = Inbound("request-1", Operation.GENERATE, path_model, {}, read, time.monotonic())
    exchange = Exchange(inbound, wishes=wishes or Wishes())
    try:
        admitted, terms = planner(day, conditions).admitted(
            exchange, caller, policy.projects[caller.project], policy, body
        )
    except GatewayError as error:
        kind = exchange.job_type.name if exchange.job_type else None
        return error.status, error.code, error.message, exchange.job, kind
    ranked = admitted.ranked
    assert (exchange.job, exchange.job_type, exchange.arm) == (admitted.job, admitted.job_type, ranked.arm)
    about = dict(admitted.about())
    return admitted.job, admitted.job_type.name, tuple(ranked.quotes), ranked.refusals, str(ranked.arm), terms, about


async def case_of(case: Mapping[str, Any], policy: Policy, letters: int) -> Told:
    """What a golden case comes to as a request, with so many letters more in its prompt."""
    project = case.get("project", next(iter(policy.projects)))
    try:
        wishes = accept({name.lower(): str(value) for name, value in case.get("headers", {}).items()})
    except GatewayError as error:  # nothing else is looked at
        return (error.message,)
    return await come_to(
        policy,
        {"prompt": "x" * (case.get("prompt", 5) + letters), **case.get("asks", {})},
        wishes=wishes,
        caller=Caller("key_1", project, case.get("key_job_type")),
        day=case.get("day", TODAY),
        conditions=golden.Known(case["routes"]) if "routes" in case else None,
    )


@pytest.mark.parametrize("file", golden.files(), ids=lambda file: file.stem)
async def test_what_was_asked_before_has_no_say(file: Path) -> None:
    """All golden cases in turns, again and again, come to what each comes to under a policy that remembers nothing."""
    content = golden.read(file)
    policy = golden.policy_of(content)
    chance = random.Random(file.stem)
    tries = [(case, letters) for case in content["cases"] if not case.get("images") for letters in (0, 1, 4000)] * 2
    chance.shuffle(tries)
    for case, letters in tries:
        assert await case_of(case, policy, letters) == await case_of(case, replace(policy), letters), case["case"]


def two_routes() -> tuple[Route, Route]:
    """Two routes of different prices."""
    return builders.route("main"), builders.route("old", builders.GPT_IMAGE_15)


async def test_a_request_of_a_known_kind_is_not_worked_out_again() -> None:
    """Another text of the same length comes to the very same quotes; another length to the same routes, priced anew."""
    policy = builders.policy(*two_routes())
    first = await come_to(policy, FREE)
    again = await come_to(policy, {**FREE, "prompt": "a ripe melon"[:11]})
    longer = await come_to(policy, {**FREE, "prompt": "a red apple and a melon"})
    assert again[0] is first[0]
    assert isinstance(first[2], tuple)
    assert isinstance(again[2], tuple)
    assert isinstance(longer[2], tuple)
    assert all(one is other for one, other in zip(first[2], again[2], strict=True))
    assert [quote.route.name for quote in longer[2]] == ["main", "old"]
    assert longer[2][0].worst.route > first[2][0].worst.route


async def test_letters_of_several_bytes_are_priced_by_their_bytes() -> None:
    """As many characters in more bytes are another prompt."""
    policy = builders.policy(*two_routes())
    plain, wide = await come_to(policy, FREE), await come_to(policy, {**FREE, "prompt": "ä réd äpplé"})
    assert isinstance(plain[2], tuple)
    assert isinstance(wide[2], tuple)
    assert wide[2][0].worst.route > plain[2][0].worst.route
    assert wide == await come_to(replace(policy), {**FREE, "prompt": "ä réd äpplé"})


async def test_who_asks_for_what_and_when_has_a_say() -> None:
    """Project, the key's job type, the model of the path, headers and the day: each comes to its own."""
    main, old = two_routes()
    draft, print_ = JobType("draft", (main, old)), JobType("print", (old,))
    team = Project("team", ("draft", "print"), "draft", lanes=frozenset({"production", "testing"}))
    other = replace(team, name="other", default_job_type="print")
    small = builders.policy(main, old, job_type=draft, project=team)
    policy = replace(small, job_types={"draft": draft, "print": print_}, projects={"team": team, "other": other})
    asked: list[dict[str, Any]] = [
        {},
        {"caller": Caller("key_2", "other")},
        {"caller": Caller("key_3", "team", "print")},
        {"path_model": "job:print"},
        {"path_model": "job:none"},
        {"wishes": Wishes(job_type="print")},
        {"wishes": Wishes(lane="testing")},
        {"wishes": Wishes(lane="unknown")},
        {"wishes": Wishes(max_cost=1)},
        {"wishes": Wishes(max_cost=10**9)},
        {"wishes": Wishes(degrade=False)},
        {"wishes": Wishes(tags={"campaign": "spring"})},
        {"wishes": Wishes(tags={"campaign": "autumn"})},
        {"caller": Caller("key_4", "team")},
        {"wishes": Wishes(respond_async=True)},
        {"day": TODAY + timedelta(days=400)},
        {"conditions": golden.Known({"main": "it failed five times"})},
    ]
    for each in [*asked, *reversed(asked)] * 2:
        assert await come_to(policy, FREE, **each) == await come_to(replace(policy), FREE, **each), each


async def test_the_record_of_requests_that_are_alike_is_made_once() -> None:
    """The next one like it has the very same; another key's or one that a route has failed has its own."""
    policy = builders.policy(*two_routes())

    async def admitted(caller: Caller) -> Admitted:
        body = await body_of(FREE)

        async def read() -> Body:
            return body

        exchange = Exchange(Inbound("request-1", Operation.GENERATE, None, {}, read, 0.0), wishes=accept({}))
        return planner().admitted(exchange, caller, policy.projects["team"], policy, body)[0]

    await admitted(CALLER)
    first, again, other = await admitted(CALLER), await admitted(CALLER), await admitted(Caller("key_2", "team"))
    assert first.ranked is again.ranked is other.ranked
    told = first.about()
    assert again.about() is told
    assert {**other.about(), "key": "key_1"} == told != other.about()
    again.exchange.failed = ("main",)
    assert again.about() == {**told, "failed": ["main"]}
    assert "failed" not in first.about()


async def test_callers_of_an_experiment_meet_their_own_arms() -> None:
    """Who takes part is not remembered as one of all."""
    main, old = two_routes()
    kind = JobType("draft", (main, old), experiment=Experiment("trial", {"old": 5000}, (old,)))
    policy = builders.policy(main, old, job_type=kind)
    arms = set()
    for number in [*range(20), *range(20)]:
        caller = Caller(f"key_{number}", "team")
        found = await come_to(policy, FREE, caller=caller)
        assert found == await come_to(replace(policy), FREE, caller=caller)
        arms.add(found[4])
    assert arms == {"trial=old", "trial=control"}


async def test_a_task_is_not_remembered_as_a_request() -> None:
    """What asks for a task by its body or its headers never becomes an answer at once, nor the other way round."""
    policy = builders.policy(*two_routes())
    free: dict[str, object] = {**FREE}
    asked = [({**free, "async": True}, Wishes()), (free, Wishes(respond_async=True)), (free, Wishes())]
    for fields, wishes in asked * 3:
        found = await come_to(policy, fields, wishes=wishes)
        assert (found[5] is None) == ("async" not in fields and not wishes.respond_async)
