"""Price and rank: which routes can do the job, in which order, and what is said when none can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from gateway.domain.caller import Caller
from gateway.domain.errors import (
    BudgetExceeded,
    Forbidden,
    GatewayError,
    InvalidRequest,
    NotFound,
    UnsupportedByEveryRoute,
)
from gateway.domain.job import Job, Operation, Wishes
from gateway.domain.money import parse_usd
from gateway.domain.policy import ClientModel, JobType, Policy, Project
from gateway.domain.route import Refusal, Route, RouteLimits
from gateway.routing import decision
from gateway.routing.decision import Asked
from gateway.steps.compatibility import modernized
from gateway.steps.rank import Ranked, unsupported
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, GPT_IMAGE_25, TODAY, job, policy, route

TWO = route("main", GPT_IMAGE_2)
FLARE = route("flare", GPT_IMAGE_25)
OLD = route("old", GPT_IMAGE_15)


def decide(
    asked: Job,
    *routes: Route,
    wishes: Wishes | None = None,
    project: Project | None = None,
    allow: Mapping[str, tuple[str, ...]] | None = None,
    defaults: Mapping[str, str] | None = None,
    max_cost_per_image: int | None = None,
) -> Ranked:
    """Price and rank a job on these routes."""
    kind = JobType("draft", routes, allow=allow or {}, defaults=defaults or {}, max_cost_per_image=max_cost_per_image)
    team = project or Project("team", ("draft",), "draft")
    rules: Policy = policy(*routes, job_type=kind, project=team)
    caller = Caller("key_1", team.name)
    return decision.decide(Asked(asked, wishes or Wishes(), caller, team, rules, TODAY), kind)


def order(ranked: Ranked) -> list[str]:
    """The names of the routes to try."""
    return [quote.route.name for quote in ranked.quotes]


@pytest.mark.parametrize(
    ("changes", "capability", "field", "words"),
    [
        (
            {"operation": Operation.EDIT, "references": 1},
            {"operations": frozenset({Operation.GENERATE})},
            "model",
            "cannot edit",
        ),
        ({"n": 4, "stream": True, "partial_images": 1}, {"n": 1}, "n", "at most 1 images"),
        ({"references": 3}, {"references": 2}, "image", "at most 2 input images"),
        ({"mask": True}, {"mask": False}, "mask", "no mask"),
        ({"stream": True, "partial_images": 1}, {"stream": False}, "partial_images", "does not stream"),
        ({"background": "transparent"}, {}, "background", "no transparent background"),
        ({"output_format": "gif"}, {}, "output_format", "png, jpeg, webp"),
        ({"size": "1000x1000"}, {}, "size", "multiples of 16"),
        ({"size": "4096x1024"}, {}, "size", "longer than 3840"),
        ({"size": "3840x1024"}, {}, "size", "3:1"),
        ({"size": "512x512"}, {}, "size", "pixels"),
        ({"size": "1024X1024"}, {}, "size", "WIDTHxHEIGHT"),
        ({"prompt_chars": 20}, {"prompt_chars": 10}, "prompt", "10 characters"),
    ],
)
def test_a_route_that_cannot_do_the_job_is_passed_over_with_its_reason(
    changes: Mapping[str, object], capability: Mapping[str, object], field: str, words: str
) -> None:
    """The next route serves; with no other route the error names the field and the reason."""
    unable = replace(TWO, capabilities=replace(TWO.capabilities, **capability))  # type: ignore[arg-type]  # table of fields
    able = replace(
        FLARE,
        capabilities=replace(
            FLARE.capabilities,
            output_formats=("gif",) if field == "output_format" else FLARE.capabilities.output_formats,
        ),
    )
    asked = job(**changes)

    if field != "size":
        ranked = decide(asked, unable, able)
        assert order(ranked) == ["flare"]
        assert words in ranked.refusals[0].reason
    with pytest.raises(UnsupportedByEveryRoute) as caught:
        decide(asked, unable)
    assert caught.value.param == field
    assert words in caught.value.message


def test_routes_are_tried_in_listed_order() -> None:
    """Policy's order is kept."""
    assert order(decide(job(), FLARE, TWO)) == ["flare", "main"]


def test_more_images_than_a_routes_minute_holds_are_never_offered_to_it() -> None:
    """n = 10 can never pass a limit of five images a minute."""
    tight = replace(TWO, limits=RouteLimits(images_per_minute=5))

    assert order(decide(job(n=10), tight, FLARE)) == ["flare"]
    with pytest.raises(UnsupportedByEveryRoute, match="5 images a minute"):
        decide(job(n=10), tight)


def test_testing_routes_serve_only_those_who_ask_and_may() -> None:
    """Never by default, never without the lane, and a lane that is closed is a 403."""
    beta = replace(FLARE, lane="testing")
    insider = Project("team", ("draft",), "draft", lanes=frozenset({"production", "testing"}))

    assert order(decide(job(), beta, TWO)) == ["main"]
    assert order(decide(job(), beta, TWO, project=insider)) == ["main"]
    assert order(decide(job(), beta, TWO, project=insider, wishes=Wishes(lane="testing"))) == ["flare", "main"]
    with pytest.raises(Forbidden) as caught:
        decide(job(), beta, TWO, wishes=Wishes(lane="testing"))
    assert caught.value.code == "lane_not_allowed"


@pytest.mark.parametrize(
    ("mode", "model", "expected"),
    [
        (ClientModel.IGNORE, "gpt-image-2.5-flare", ["main", "flare"]),
        (ClientModel.IGNORE, "anything", ["main", "flare"]),
        (ClientModel.PREFER, "gpt-image-2.5-flare", ["flare", "main"]),
        (ClientModel.PREFER, "anything", ["main", "flare"]),
        (ClientModel.HONOUR, "gpt-image-2.5-flare", ["flare"]),
        (ClientModel.HONOUR, "gpt-image-2-2026-04-21", ["main"]),
        (ClientModel.HONOUR, "job:draft", ["main", "flare"]),
    ],
)
def test_a_model_that_the_client_names_is_honoured_preferred_or_ignored(
    mode: ClientModel, model: str, expected: list[str]
) -> None:
    """Per project, as policy says."""
    team = Project("team", ("draft",), "draft", client_model=mode)

    assert order(decide(job(client_model=model), TWO, FLARE, project=team)) == expected


@pytest.mark.parametrize("mode", [ClientModel.PREFER, ClientModel.HONOUR])
def test_a_client_may_name_what_a_provider_calls_the_model(mode: ClientModel) -> None:
    """A product or a deployment of one's own, as `match: {model: …}` finds it too."""
    team = Project("team", ("draft",), "draft", client_model=mode)
    sold = replace(FLARE, upstream_model="flare-beta")
    ranked = decide(job(client_model="flare-beta"), TWO, sold, project=team)
    assert order(ranked)[0] == "flare"


@pytest.mark.parametrize(
    ("model", "error", "code"),
    [("gpt-image-9", NotFound, "model_not_found"), ("gpt-image-1.5", Forbidden, "model_not_allowed")],
)
def test_an_honoured_model_that_is_not_served_is_an_error(model: str, error: type[GatewayError], code: str) -> None:
    """404 for what nobody knows, 403 for what this job type does not offer."""
    team = Project("team", ("draft",), "draft", client_model=ClientModel.HONOUR)

    with pytest.raises(error) as caught:
        decide(job(client_model=model), TWO, project=team)
    assert caught.value.code == code


def test_an_honoured_model_of_old_is_refused_by_the_name_that_the_client_sent() -> None:
    """Where its replacement is not served either: 403 for what the client wrote, and what that stands for."""
    gone = replace(GPT_IMAGE_15, retires=TODAY, replacement=GPT_IMAGE_25.name)
    team = Project("team", ("draft",), "draft", client_model=ClientModel.HONOUR, legacy=True)
    rules = policy(TWO, project=team)
    rules = replace(rules, models={**rules.models, gone.name: gone})
    asked = modernized(job(client_model=gone.name), {}, team, rules, TODAY)

    with pytest.raises(Forbidden) as caught:
        decision.decide(
            Asked(asked, Wishes(), Caller("key_1", team.name), team, rules, TODAY), rules.job_types["draft"]
        )
    assert caught.value.message == (
        f"The model 'gpt-image-1.5' is not allowed for job type 'draft'. It was retired by its vendor on {TODAY} "
        "and stands for 'gpt-image-2.5-flare'. Use one of: gpt-image-2."
    )


def test_a_maximum_cost_passes_over_dearer_routes_and_else_is_402() -> None:
    """The caller's limit and the job type's limit per image, whichever is lower."""
    asked = job(quality="high", size="1024x1024", n=2)
    wishes = Wishes(max_cost=parse_usd("0.20"))

    assert order(decide(asked, TWO, FLARE, wishes=wishes)) == ["flare"]
    assert order(decide(asked, TWO, FLARE, max_cost_per_image=parse_usd("0.10"))) == ["flare"]
    with pytest.raises(BudgetExceeded) as caught:
        decide(asked, TWO, wishes=wishes)
    assert (caught.value.code, caught.value.param) == ("max_cost_exceeded", "X-Gateway-Max-Cost")


def test_defaults_fill_what_was_left_out_and_reach_the_provider() -> None:
    """`auto` and absent fields take policy's default; what the client said stays."""
    defaults = {"quality": "low", "size": "1536x1024"}
    quote = decide(job(quality="high"), TWO, defaults=defaults).quotes[0]

    assert (quote.job.quality, quote.job.size) == ("high", "1536x1024")
    assert (quote.changes["size"], quote.changes["model"]) == ("1536x1024", "gpt-image-2-2026-04-21")


def test_auto_becomes_the_dearest_allowed_value_where_policy_narrows_it() -> None:
    """The provider must not choose beyond what policy allows and beyond what is held."""
    quote = decide(job(), TWO, allow={"quality": ("low", "medium"), "size": ("1024x1024", "1536x1024")}).quotes[0]

    assert (quote.changes["quality"], quote.changes["size"]) == ("medium", "1024x1024")
    exact = decide(job(quality="medium", size="1024x1024"), TWO).quotes[0]
    assert quote.worst == exact.worst


def test_auto_stays_auto_where_policy_allows_all() -> None:
    """Nothing is sent that the client did not say; the dearest is held."""
    quote = decide(job(), TWO).quotes[0]

    assert "quality" not in quote.changes
    assert "size" not in quote.changes


def test_a_value_that_policy_forbids_is_named_with_what_is_allowed() -> None:
    """400 with the field and the choice."""
    with pytest.raises(InvalidRequest, match="low, medium") as caught:
        decide(job(quality="high"), TWO, allow={"quality": ("low", "medium")})
    assert caught.value.param == "quality"


def test_a_retired_model_is_passed_over_with_its_replacement() -> None:
    """After its date a route serves no more and says what replaces it."""
    gone = replace(OLD, model=replace(GPT_IMAGE_15, retires=TODAY))

    ranked = decide(job(), gone, TWO)

    assert order(ranked) == ["main"]
    assert "gpt-image-2.5-flare replaces it" in ranked.refusals[0].reason


@pytest.mark.parametrize(
    ("able", "told"),
    [(0, ""), (5, " What could: r0, r1, r2, r3, r4."), (7, " What could: r0, r1, r2, r3, r4 and 2 more.")],
)
def test_an_error_names_five_routes_at_most_that_could(able: int, told: str) -> None:
    """Of many routes elsewhere that could do it, the first five are named and the others counted."""
    kind = JobType("draft", routes=(TWO,))
    error = unsupported([Refusal("main", "cannot edit")], kind, [f"r{number}" for number in range(able)])
    assert error.message == f"No route of job type 'draft' can do this. main: cannot edit.{told}"


def test_a_lane_hides_no_field_at_fault() -> None:
    """What is no matter of the request's body does not keep the error from naming its field."""
    kind = JobType("draft", routes=(TWO,), defaults={})
    refusals = [Refusal("main", "output_format is one of png", "output_format"), Refusal("trial", "lane 'testing'")]
    assert unsupported(refusals, kind, []).param == "output_format"


def test_a_maximum_is_kept_to_the_last_billionth() -> None:
    """A route that may cost exactly that is tried, one that may cost a billionth more is not."""
    asked = job(quality="low", size="1024x1024")
    [quote] = decide(asked, TWO).quotes

    assert order(decide(asked, TWO, wishes=Wishes(max_cost=quote.worst.route))) == ["main"]
    assert order(decide(asked, TWO, max_cost_per_image=quote.worst.route)) == ["main"]
    with pytest.raises(BudgetExceeded, match="X-Gateway-Max-Cost"):
        decide(asked, TWO, wishes=Wishes(max_cost=quote.worst.route - 1), max_cost_per_image=quote.worst.route)
    with pytest.raises(BudgetExceeded, match="max_cost_per_image"):
        decide(asked, TWO, wishes=Wishes(max_cost=quote.worst.route), max_cost_per_image=quote.worst.route - 1)
