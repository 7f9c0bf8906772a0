"""Refusals that cost money: each hold ends exactly once, at what the price row says, on a real ledger.

Only a provider that refuses as a test says shows each case, so one written for it stands behind the port.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.errors import UpstreamError
from gateway.domain.money import parse_usd
from gateway.domain.policy import DegradeStep, JobType, OnUnknown, Policy, Project, Retry, Shadow
from gateway.domain.price import Charged, PixelTier, Price
from gateway.domain.route import Route
from gateway.domain.settlement import Outcome, Reading
from gateway.ledger.entries import read_entries
from gateway.observe.event import HoldEnded
from gateway.ports.provider import UpstreamFailure
from gateway.providers.collected import CollectedAnswer
from gateway.providers.part import Part
from tests.builders import PROVIDER, TODAY, policy, route
from tests.rig import BUDGET, Painted, Rig, rigged
from tests.test_shadow import OWN, shadowed

EACH = 40_000
"""Micro-USD of an image."""
PRICE = Price(
    TODAY,
    "test",
    per_image=(PixelTier("any", parse_usd("0.04"), None),),
    charged_for=frozenset({Charged.SUCCEEDED, Charged.MODERATED}),
)


def rules() -> Policy:
    """Two routes by the image, of which both charge for moderation, and two calls a request."""
    return limited(retry=Retry(attempts=2))


def limited(*routes: Route, **keys: Any) -> Policy:
    """These routes, or those of `rules`, for a job type with these keys."""
    routes = routes or tuple(route(name, prices=(PRICE,)) for name in ("main", "spare"))
    project = Project("team", ("draft",), "draft", budgets=(BUDGET,))
    return policy(*routes, job_type=JobType("draft", routes, **keys), project=project)


def refusal(word: str | None = Charged.MODERATED, *, pass_on: bool = True) -> UpstreamFailure:
    """A provider's refusal."""
    return UpstreamFailure(
        Outcome.REJECTED,
        "status_4xx" if pass_on else "task_failed",
        "the provider refused",
        status=400,
        headers=[("content-type", "application/json")],
        body=b'{"error": {"code": "moderation_blocked"}}',
        pass_on=pass_on,
        charged_for=word,
    )


async def entries(rig: Rig) -> list[str]:
    """The kinds of all entries, oldest first."""
    return [entry.kind async for entry in read_entries(rig.store)]


async def test_a_refusal_that_is_charged_is_booked_once_and_told(tmp_path: Path) -> None:
    """The client gets the refusal with its cost and is told not to repeat it; nothing stays held."""
    async with rigged(tmp_path, rules()) as rig:
        rig.painter.script.append(refusal())
        rig.painter.go_on.set()
        inbound = rig.inbound("k")
        got = await rig.ask(inbound)

        headers = {name.lower(): value for name, value in got.headers}
        assert (got.status, headers["x-should-retry"], headers["x-gateway-cost"]) == (400, "false", "0.04")
        assert await rig.spent() == (EACH, 0)
        assert await entries(rig) == ["settle"]
        [ended] = [event for event in rig.events.seen if isinstance(event, HoldEnded)]
        assert ended.cost.route == 1000 * EACH
        record = await rig.ledger.request(inbound.request_id)
        assert record is not None

        again = await rig.ask(rig.inbound("k"))
        assert (again.status, again.body, rig.painter.calls) == (400, got.body, 1)
        assert await rig.spent() == (EACH, 0)


@pytest.mark.parametrize("word", [Charged.INVALID, None])
async def test_a_refusal_that_is_not_charged_is_given_back(tmp_path: Path, word: str | None) -> None:
    """What the row does not name is void, which leaves no entry, and may be asked again."""
    async with rigged(tmp_path, rules()) as rig:
        rig.painter.script.append(refusal(word))
        rig.painter.go_on.set()
        got = await rig.ask(rig.inbound())

        assert got.status == 400
        assert "x-should-retry" not in {name.lower() for name, _ in got.headers}
        assert (await rig.spent(), await entries(rig)) == ((0, 0), [])


async def test_the_next_route_is_paid_beside_the_charge(tmp_path: Path) -> None:
    """After a charged failure that is not the caller's the next route serves; both are booked, each once."""
    async with rigged(tmp_path, rules()) as rig:
        rig.painter.script.append(refusal(pass_on=False))
        rig.painter.go_on.set()
        got = await rig.ask(rig.inbound())

        assert (got.status, dict(got.headers)["X-Gateway-Cost"]) == (200, "0.08")
        assert await rig.spent() == (2 * EACH, 0)
        assert await entries(rig) == ["settle", "settle"]


@pytest.mark.parametrize(
    ("header", "per_image", "calls"), [("0.08", None, 2), ("0.0799", None, 1), ("1", "0.08", 2), ("1", "0.07", 1)]
)
@pytest.mark.parametrize(
    "first",
    [
        refusal(pass_on=False),
        UpstreamFailure(Outcome.UNKNOWN, "reset", "lost"),
        Painted(b"{", broken=UpstreamFailure(Outcome.UNKNOWN, "reset", "lost")),
    ],
    ids=["charged", "unknown", "broken off"],
)
async def test_a_maximum_is_that_of_all_calls_together(
    tmp_path: Path, first: UpstreamFailure | Painted, header: str, per_image: str | None, calls: int
) -> None:
    """What was booked leaves less for the next call; one that would exceed the maximum is not made, and it is told."""
    most = None if per_image is None else parse_usd(per_image)
    rules = limited(max_cost_per_image=most, retry=Retry(attempts=2, on_unknown=OnUnknown.NEXT_ROUTE))
    async with rigged(tmp_path, rules) as rig:
        rig.painter.script.append(first)
        rig.painter.go_on.set()
        inbound = rig.inbound(x_gateway_max_cost=header)
        if calls == 2:
            got = await rig.ask(inbound)
            assert (got.status, got.header("X-Gateway-Cost")) == (200, "0.08")
        else:
            with pytest.raises(UpstreamError) as caught:
                await rig.ask(inbound)
            assert "exceed the maximum" in caught.value.message
            assert caught.value.should_retry is False
            assert dict(caught.value.headers)["X-Gateway-Cost"] == "0.04"

        assert rig.painter.calls == calls
        assert await rig.spent() == (calls * EACH, 0)


async def test_what_was_not_billed_takes_nothing_of_a_maximum(tmp_path: Path) -> None:
    """A call that surely cost nothing is followed by another one under the very same maximum."""
    async with rigged(tmp_path, rules()) as rig:
        rig.painter.script.append(refusal(None, pass_on=False))
        rig.painter.go_on.set()
        got = await rig.ask(rig.inbound(x_gateway_max_cost="0.04"))

        assert (got.status, got.header("X-Gateway-Cost"), rig.painter.calls) == (200, "0.04", 2)


async def test_after_a_charge_a_lower_rung_may_still_fit(tmp_path: Path) -> None:
    """As at the first call: what policy would change as budgets run out is changed to keep to the maximum."""
    by_size = replace(
        PRICE, per_image=(PixelTier("1K", parse_usd("0.04"), 1_100_000), PixelTier("2K", parse_usd("0.08"), None))
    )
    main, spare = (route(name, prices=(by_size,)) for name in ("main", "spare"))
    lower = (DegradeStep(8_000, {"size": "1024x1024"}),)
    async with rigged(tmp_path, limited(main, spare, degrade=lower, retry=Retry(attempts=2))) as rig:
        rig.painter.script.append(refusal(pass_on=False))
        rig.painter.go_on.set()
        fields = {"prompt": "a cat", "size": "2048x2048", "quality": "low"}
        got = await rig.ask(rig.inbound(fields=fields, x_gateway_max_cost="0.15"))

        assert (got.status, got.header("X-Gateway-Degraded")) == (200, "size=1024x1024")
        assert got.header("X-Gateway-Cost") == "0.12"


async def test_if_all_fail_at_a_charge_the_error_says_so(tmp_path: Path) -> None:
    """A client must not repeat what cost money and came to nothing."""
    async with rigged(tmp_path, rules()) as rig:
        rig.painter.script += [refusal(pass_on=False), refusal(pass_on=False)]
        rig.painter.go_on.set()
        with pytest.raises(UpstreamError, match="was billed") as caught:
            await rig.ask(rig.inbound())

        assert caught.value.should_retry is False
        assert "Nothing was billed" not in caught.value.message
        assert (await rig.spent(), await entries(rig)) == ((2 * EACH, 0), ["settle", "settle"])


async def test_a_route_of_own_machines_spends_nothing(tmp_path: Path) -> None:
    """A free row is held and settled at nothing, under a budget that is all but spent."""
    free = Price(TODAY, "own", free=True)
    main = route("main", prices=(free,))
    kind = JobType("draft", (main,), retry=Retry(attempts=1))
    small = replace(BUDGET, limit=1)
    own = policy(main, job_type=kind, project=Project("team", ("draft",), "draft", budgets=(small,)))
    async with rigged(tmp_path, own) as rig:
        rig.painter.go_on.set()
        got = await rig.ask(rig.inbound())

        assert (got.status, dict(got.headers)["X-Gateway-Cost"]) == (200, "0.00")
        assert (await rig.spent(), await entries(rig)) == ((0, 0), ["settle"])


async def test_a_shadow_that_is_refused_at_a_charge_is_booked(tmp_path: Path) -> None:
    """Repeated requests pay for refusals as the others do, on their own budget."""
    beta = route("beta", prices=(PRICE,), provider=replace(PROVIDER, name="beta"), lane="testing")
    kind = JobType("draft", (route("main"),), shadow=Shadow(beta, 10_000, OWN))
    made = policy(*kind.routes, job_type=kind, project=Project("team", ("draft",), "draft", budgets=(BUDGET,)))
    async with shadowed(tmp_path, made) as rig:
        rig.beta.go_on.set()
        rig.beta.script = [refusal()]
        _, got = await rig.one()

        assert (got.status, await rig.ended()) == (200, ["failed"])
        assert await rig.own() == (EACH, 0)


async def test_calls_of_one_job_that_were_refused_at_a_charge_are_told() -> None:
    """What is put together of several calls names those that were charged, and what was said of them."""
    said = Reading(units=Fraction(1, 2))
    failed = refusal()
    failed.reading = said
    good = Part(1, reading=Reading(images=1, complete=True, units=Fraction(2), reported=7))
    parts = [good, good, Part(1, failed), Part(1, refusal(None))]

    reading = CollectedAnswer(parts, ()).reading()

    assert [(part.charged_for, part.reading.units) for part in reading.parts] == [
        (None, Fraction(2)),
        (None, Fraction(2)),
        ("moderated", Fraction(1, 2)),
    ]
    assert (reading.images, reading.units, reading.reported, reading.seconds) == (2, Fraction(4), 14, None)
