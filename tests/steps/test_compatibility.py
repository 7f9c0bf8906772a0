"""Compatibility: what requests written for retired models mean now, as the catalog says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date

import pytest

from gateway.domain.caller import Caller
from gateway.domain.errors import InvalidRequest
from gateway.domain.job import Job, Size, Wishes
from gateway.domain.policy import ClientModel, DegradeStep, JobType, Match, Policy, Project
from gateway.domain.price import PixelTier, Price
from gateway.domain.profile import Parameter, Profile, Source
from gateway.domain.route import Legacy, Model, SizeRule
from gateway.routing.decision import Asked, decide, job_type_of
from gateway.steps.compatibility import modernized
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, GPT_IMAGE_25, PROVIDER, TODAY, capabilities, job, policy, route

LARGE = SizeRule(fixed=(Size(1024, 1024), Size(1792, 1024), Size(1024, 1792)))
SMALL = SizeRule(fixed=(Size(256, 256), Size(512, 512), Size(1024, 1024)))
LEGACY = Legacy({"standard": "medium", "hd": "high"}, {"1792x1024": "1536x1024"}, ("style",), links=True)
OLD = Model(
    "old-3",
    capabilities(LARGE, ("standard", "hd")),
    (),
    snapshot="old-3-first",
    retires=date(2026, 5, 12),
    replacement="gpt-image-1.5",
    legacy=LEGACY,
)
OLDER = Model(
    "old-2",
    capabilities(SMALL, ("standard",)),
    (),
    retires=date(2025, 1, 1),
    replacement="old-3",
    legacy=Legacy({"standard": "low"}, {"256x256": "1024x1024"}, ("seed",)),
)
ORPHAN = Model("orphan", capabilities(SMALL, ("standard",)), (), retires=date(2025, 1, 1), replacement="nothing")
LOOP = replace(ORPHAN, name="loop", replacement="loop")
TWO = route("two", GPT_IMAGE_2)
OF_OLD = Project("team", ("draft",), "draft", client_model=ClientModel.HONOUR, legacy=True)


def rules(project: Project = OF_OLD, job_type: JobType | None = None) -> Policy:
    """A policy whose catalog remembers retired models."""
    made = policy(TWO, job_type=job_type, project=project)
    return replace(made, models={**made.models, **{model.name: model for model in (OLD, OLDER, ORPHAN, LOOP)}})


def meant(fields: Mapping[str, object] | None = None, *, today: date = TODAY, **asked: object) -> Job:
    """What a job of old is now."""
    return modernized(job(**asked), fields or {}, OF_OLD, rules(), today)


def test_without_the_policys_word_nothing_changes() -> None:
    """A project that is not of old gets the very same job, whatever it names."""
    asked = job(client_model="old-3", quality="hd", size="1792x1024")
    project = replace(OF_OLD, legacy=False)
    assert modernized(asked, {"style": "vivid"}, project, rules(project), TODAY) is asked


@pytest.mark.parametrize(
    ("form", "stream", "links"), [("url", False, True), ("url", True, False), ("b64_json", False, False)]
)
def test_the_form_of_the_answer_is_the_gateways_business(form: str, stream: bool, links: bool) -> None:
    """Whoever asks for it: no provider hears of it."""
    asked, project = job(client_model="old-3", stream=stream), replace(OF_OLD, legacy=False)
    now = modernized(asked, {"response_format": form}, project, rules(project), TODAY)
    assert now == replace(asked, links=links, dropped=("response_format",))
    assert modernized(asked, {"response_format": None}, project, rules(project), TODAY).links is False
    with pytest.raises(InvalidRequest):
        modernized(asked, {"response_format": "hex"}, project, rules(project), TODAY)


@pytest.mark.parametrize(
    ("named", "today", "now"),
    [
        ("old-3", TODAY, "gpt-image-1.5"),
        ("old-3-first", TODAY, "gpt-image-1.5"),
        ("old-2", TODAY, "gpt-image-1.5"),
        ("old-2", date(2026, 5, 11), "old-3"),
        ("old-2", date(2026, 12, 1), "gpt-image-2.5-flare"),
        ("gpt-image-1.5", TODAY, "gpt-image-1.5"),
        ("gpt-image-1.5", date(2026, 12, 1), "gpt-image-2.5-flare"),
        ("gpt-image-2", TODAY, "gpt-image-2"),
        ("gpt-image-2-2026-04-21", TODAY, "gpt-image-2"),
        ("orphan", TODAY, "orphan"),
        ("loop", TODAY, "loop"),
        ("nobody-knows", TODAY, "nobody-knows"),
        ("job:draft", TODAY, "job:draft"),
        (None, TODAY, None),
    ],
)
def test_a_retired_model_becomes_the_first_replacement_that_answers(
    named: str | None, today: date, now: str | None
) -> None:
    """Along the chain, on that day; what has not retired, has no successor, or is no model, stays."""
    assert meant(client_model=named, today=today).client_model == now


@pytest.mark.parametrize(
    ("named", "asked", "now"),
    [
        ("old-3", ("hd", "1792x1024"), ("high", "1536x1024")),
        ("old-3", ("standard", "1024x1024"), ("medium", "1024x1024")),
        ("old-3", ("low", "256x256"), ("low", "256x256")),
        ("old-2", ("standard", "256x256"), ("low", "1024x1024")),
        ("old-2", ("hd", "1792x1024"), ("hd", "1792x1024")),
        (None, ("standard", "256x256"), ("medium", "1024x1024")),
        (None, ("hd", "1792x1024"), ("high", "1536x1024")),
        ("job:draft", ("hd", "1792x1024"), ("high", "1536x1024")),
        ("nobody-knows", ("hd", "256x256"), ("high", "1024x1024")),
        ("gpt-image-2", ("hd", "1792x1024"), ("high", "1792x1024")),
        ("gpt-image-1.5", ("hd", "1792x1024"), ("high", "1536x1024")),
        ("gpt-image-2", ("max", "17x17"), ("max", "17x17")),
        ("old-3", ("auto", "auto"), ("auto", "auto")),
        (None, ("auto", "auto"), ("auto", "auto")),
    ],
)
def test_words_of_old_are_mapped(named: str | None, asked: tuple[str, str], now: tuple[str, str]) -> None:
    """By the named model's own words; under another name what that model does not know is read as any model had it."""
    result = meant(client_model=named, quality=asked[0], size=asked[1])
    assert (result.quality, result.size) == now


@pytest.mark.parametrize(
    ("named", "asked", "now", "mapped", "assumed"),
    [
        ("old-3", ("auto", "auto"), ("medium", "1024x1024"), ("quality", "size"), ("quality", "size")),
        ("old-3", ("hd", "auto"), ("high", "1024x1024"), ("quality", "size"), ("size",)),
        ("old-3", ("auto", "1024x1024"), ("medium", "1024x1024"), ("quality",), ("quality",)),
        ("gpt-image-2", ("auto", "auto"), ("auto", "auto"), (), ()),
        (None, ("hd", "auto"), ("high", "auto"), ("quality",), ()),
    ],
)
def test_what_is_left_out_is_as_the_named_model_had_it(
    named: str | None,
    asked: tuple[str, str],
    now: tuple[str, str],
    mapped: tuple[str, ...],
    assumed: tuple[str, ...],
) -> None:
    """The model's own defaults, mapped as if sent; the job tells which of its values the client never sent."""
    old = replace(OLD, legacy=replace(LEGACY, defaults={"quality": "standard", "size": "1024x1024"}))
    found = rules()
    found = replace(found, models={**found.models, old.name: old})
    result = modernized(job(client_model=named, quality=asked[0], size=asked[1]), {}, OF_OLD, found, TODAY)
    assert (result.quality, result.size) == now
    assert (result.mapped, result.assumed) == (mapped, assumed)


@pytest.mark.parametrize(
    ("named", "form", "stream", "links"),
    [
        ("old-3", None, False, True),
        ("old-3", "b64_json", False, False),
        ("old-3", "url", False, True),
        ("old-2", None, False, False),
        ("old-2", "url", False, True),
        (None, None, False, False),
        (None, "url", False, True),
        ("gpt-image-2", "url", False, True),
        ("gpt-image-2", "b64_json", False, False),
        ("old-3", "url", True, False),
    ],
)
def test_links_are_asked_for_or_what_the_model_answered_with(
    named: str | None, form: str | None, stream: bool, links: bool
) -> None:
    """`url` asks for links, `b64_json` for images; a model of old that answered with links by itself does so again."""
    result = meant({"response_format": form}, client_model=named, stream=stream)
    assert result.links is links
    assert result.dropped == ("response_format",)


@pytest.mark.parametrize("form", ["binary", "", 7, ["url"], {"url": 1}])
def test_another_form_of_answer_is_refused(form: object) -> None:
    """The error names the field and what is allowed."""
    with pytest.raises(InvalidRequest, match="url, b64_json") as caught:
        meant({"response_format": form})
    code = "invalid_value" if isinstance(form, str) else "invalid_type"
    assert (caught.value.param, caught.value.code) == ("response_format", code)


def test_what_nobody_understands_is_left_out_upstream() -> None:
    """Fields that any model's `drop` names, under whatever name; nothing that was not sent."""
    sent = {"prompt": "a cat", "style": "vivid", "seed": 1, "response_format": "b64_json", "new": True}
    for named in ("old-3", "old-2", "gpt-image-2", None):
        assert set(meant(sent, client_model=named).dropped) == {"style", "seed", "response_format"}
    assert meant({"prompt": "a cat", "new": True}).dropped == ()
    asked = meant(sent, client_model="old-3", quality="hd", size="1792x1024")
    kind = JobType("draft", (TWO,))
    what = Asked(asked, Wishes(), Caller("key_1", "team"), OF_OLD, rules(job_type=kind), TODAY)
    [quote] = decide(replace(what, job=replace(asked, client_model=None)), kind).quotes
    assert quote.changes["style"] is None
    assert quote.changes["response_format"] is None
    assert "new" not in quote.changes
    assert (quote.changes["quality"], quote.changes["size"]) == ("high", "1536x1024")


@pytest.mark.parametrize("named", ["old-3", "gpt-image-2", "nobody-knows", None])
def test_a_model_that_has_not_retired_forces_nothing(named: str | None) -> None:
    """Until its day its words are its own, whoever asks: it makes them, and what it leaves open stays so."""
    old = replace(OLD, legacy=replace(LEGACY, defaults={"quality": "standard", "size": "1024x1024"}))
    made = rules()
    made = replace(made, models={old.name: old, GPT_IMAGE_2.name: GPT_IMAGE_2})
    asked, empty = job(client_model=named, quality="hd", size="1792x1024"), job(client_model=named)
    before, day = date(2026, 5, 11), date(2026, 5, 12)
    assert modernized(asked, {}, OF_OLD, made, before) == asked
    assert modernized(empty, {"response_format": None}, OF_OLD, made, before) == replace(
        empty, dropped=("response_format",)
    )
    assert modernized(asked, {}, OF_OLD, made, day).quality == "high"


@pytest.mark.parametrize("whom", list(ClientModel))
def test_a_route_of_a_model_that_has_not_retired_is_taken(whom: ClientModel) -> None:
    """For its own word, and at its own price."""
    priced = replace(OLD, prices=(Price(date(2026, 1, 1), "test", per_image=(PixelTier("any", 80_000, None),)),))
    kind, project = JobType("draft", (route("was", priced), TWO)), replace(OF_OLD, client_model=whom)
    made = rules(project, kind)
    made, before = replace(made, models={**made.models, priced.name: priced}), date(2026, 5, 11)
    asked = modernized(job(client_model="old-3", quality="hd", size="1024x1024"), {}, project, made, before)
    first = decide(Asked(asked, Wishes(), Caller("key_1", "team"), project, made, before), kind).quotes[0]
    assert (first.route.name, first.job.quality) == ("was", "hd")


@pytest.mark.parametrize(("today", "told"), [(date(2026, 5, 11), False), (date(2026, 5, 12), True)])
def test_the_way_out_is_told_where_it_is_one(today: date, told: bool) -> None:
    """A word that nobody makes here is understood as one of old only once its model has retired."""
    kind, project = JobType("draft", (TWO,)), replace(OF_OLD, client_model=ClientModel.IGNORE, legacy=False)
    made = rules(project, kind)
    made = replace(made, models={OLD.name: OLD, GPT_IMAGE_2.name: GPT_IMAGE_2})
    asked = job(client_model="old-3", quality="hd", size="1024x1024")
    with pytest.raises(InvalidRequest, match="has nothing like 'hd'") as caught:
        decide(Asked(asked, Wishes(), Caller("key_1", "team"), project, made, today), kind)
    assert ("compatibility: legacy" in caught.value.message) is told


FADING = replace(GPT_IMAGE_15, legacy=Legacy(drop=("fidelity",)))
"""Takes a field that its replacement does not, and retires later."""
GONE = date(2026, 12, 1)


def test_a_model_without_words_of_old_is_understood_as_any_other() -> None:
    """What it took is left out, and so is what others took; words of theirs are mapped, its own stay as they are."""
    made = rules()
    made = replace(made, models={**made.models, FADING.name: FADING})
    for quality, now in (("hd", "high"), ("low", "low")):
        asked = job(client_model=FADING.name, quality=quality)
        meant_now = modernized(asked, {"fidelity": "high", "style": "vivid"}, OF_OLD, made, TODAY)
        assert (meant_now.quality, meant_now.dropped) == (now, ("fidelity", "style"))


@pytest.mark.parametrize(
    ("legacy", "today", "left_out"),
    [
        (True, TODAY, [{"style"}, {"style", "fidelity"}]),
        (True, GONE, [{"style", "fidelity"}, {"style", "fidelity"}]),
        (False, TODAY, [set(), set()]),
        (False, GONE, [{"fidelity"}, set()]),
    ],
)
def test_a_field_is_left_out_where_the_model_that_serves_does_not_take_it(
    legacy: bool, today: date, left_out: list[set[str]]
) -> None:
    """For clients of old on every route but those of a model that takes it; for all where policy's model was replaced.

    What is held is the price of what is sent.
    """
    kind = JobType("draft", (route("fading", FADING), TWO))
    project = replace(OF_OLD, client_model=ClientModel.IGNORE, legacy=legacy)
    made = rules(project, kind)
    made = replace(made, models={**made.models, FADING.name: FADING})
    sent = {"prompt": "a cat", "fidelity": "high", "style": "vivid"}
    asked = modernized(job(quality="low", size="1024x1024"), sent, project, made, today)
    kind = replace(kind, routes=tuple(replace(each, successor=route(each.name, GPT_IMAGE_25)) for each in kind.routes))
    quotes = decide(Asked(asked, Wishes(), Caller("key_1", "team"), project, made, today), kind).quotes
    assert [quote.route.name for quote in quotes] == ["fading", "two"]
    gone = [{name for name in sent if quote.changes.get(name, "sent") is None} for quote in quotes]
    assert gone == left_out


@pytest.mark.parametrize(
    ("profile", "kept"),
    [
        (Profile(), set()),
        (Profile(parameters=(Parameter("prompt", Source.PROMPT),)), set()),
        (Profile(parameters=(Parameter("look", Source.FIELD, client_field="style"),)), {"style"}),
        (Profile(rename={"style": "look", "response_format": "form"}), {"style"}),
    ],
    ids=["plain", "not among parameters", "among parameters", "renamed"],
)
def test_a_field_that_the_provider_takes_is_sent_to_it(profile: Profile, kept: set[str]) -> None:
    """Policy or its preset lists it: the picture is another without it. The form of the answer is never sent."""
    kind = JobType("draft", (replace(TWO, provider=replace(PROVIDER, profile=profile)),))
    project = replace(OF_OLD, client_model=ClientModel.IGNORE)
    made = rules(project, kind)
    sent = {"style": "vivid", "seed": 1, "response_format": "url"}
    asked = modernized(job(), sent, project, made, TODAY)
    [quote] = decide(Asked(asked, Wishes(), Caller("key_1", "team"), project, made, TODAY), kind).quotes
    assert {name for name in sent if quote.changes.get(name, "sent") is not None} == kept


@pytest.mark.parametrize(
    ("named", "whom", "today", "left_out"),
    [
        ("gpt-image-1.5", ClientModel.HONOUR, GONE, True),
        ("gpt-image-1.5", ClientModel.PREFER, GONE, True),
        ("gpt-image-1.5", ClientModel.IGNORE, GONE, False),
        ("gpt-image-2.5-flare", ClientModel.HONOUR, GONE, False),
        ("gpt-image-1.5", ClientModel.PREFER, TODAY, False),
    ],
)
def test_what_the_clients_own_retired_model_took_is_left_out(
    named: str, whom: ClientModel, today: date, left_out: bool
) -> None:
    """Wherever the gateway put another in its place, whoever the client is; what policy sets stays set."""
    fading = replace(FADING, legacy=Legacy(drop=("fidelity",)))
    for listed in (route("flare", GPT_IMAGE_25), route("mini", replace(OLD, name="mini", replacement=None))):
        kind = JobType("draft", (replace(listed, successor=route("mini", GPT_IMAGE_25)),), defaults={"quality": "low"})
        project = replace(OF_OLD, client_model=whom, legacy=False)
        made = rules(project, kind)
        made = replace(made, models={**made.models, fading.name: fading})
        [quote] = decide(
            Asked(job(client_model=named), Wishes(), Caller("key_1", "team"), project, made, today), kind
        ).quotes
        assert ("fidelity" in quote.changes) is left_out
        assert quote.changes["quality"] == "low"
        assert (quote.replaced == "gpt-image-1.5") is (left_out and listed.name == "flare")


@pytest.mark.parametrize(
    ("named", "whom", "left_out"),
    [
        ("gpt-image-1.5", ClientModel.PREFER, True),
        ("what-its-provider-calls-it", ClientModel.PREFER, True),
        ("gpt-image-2.5-flare", ClientModel.PREFER, False),
        ("gpt-image-1.5", ClientModel.IGNORE, False),
    ],
)
def test_what_the_clients_own_retired_model_took_is_left_out_wherever_it_is_served(
    named: str, whom: ClientModel, left_out: bool
) -> None:
    """Of what comes after the replacement and of what serves degraded, unless that is described as taking it.

    Whatever was decided before for a client of the same project that named another model.
    """
    serves, takes = route("was", GPT_IMAGE_25), Profile(rename={"fidelity": "detail"})
    was = replace(route("was", FADING), upstream_model="what-its-provider-calls-it", successor=serves)
    likes = route("likes", GPT_IMAGE_2, provider=replace(PROVIDER, name="likes", profile=takes))
    kind = JobType("draft", (was, TWO, likes), degrade=(DegradeStep(5000, routes=(route("poorer", GPT_IMAGE_2),)),))
    project = replace(OF_OLD, client_model=whom, legacy=False)
    made = rules(project, kind)
    made = replace(made, models={**made.models, FADING.name: FADING})
    for model, expected in (("gpt-image-2", False), (named, left_out), ("gpt-image-2", False)):
        asked = modernized(job(client_model=model), {"fidelity": "high"}, project, made, GONE)
        quotes = decide(Asked(asked, Wishes(), Caller("key_1", "team"), project, made, GONE), kind).quotes
        gone = {quote.route.name: "fidelity" in quote.changes for quote in quotes}
        assert gone == {"was": True, "two": expected, "likes": False, "poorer": expected}


def test_the_form_of_the_answer_is_left_out_whatever_the_model_took() -> None:
    """No provider hears of it, also where the catalog says that its model did."""
    old = replace(FADING, legacy=Legacy(drop=("response_format", "style")))
    kind, project = JobType("draft", (route("fading", old),)), replace(OF_OLD, client_model=ClientModel.IGNORE)
    made = rules(project, kind)
    made = replace(made, models={**made.models, old.name: old})
    asked = modernized(job(), {"response_format": "url", "style": "vivid"}, project, made, TODAY)
    [quote] = decide(Asked(asked, Wishes(), Caller("key_1", "team"), project, made, TODAY), kind).quotes
    assert quote.changes["response_format"] is None
    assert "style" not in quote.changes


def test_rules_and_client_model_see_what_is_meant() -> None:
    """The replacement finds the job type and is what the project's `client_model` is about."""
    hero = JobType("draft", (route("flare", GPT_IMAGE_25),), match=Match({"model": ("gpt-image-2.5-flare",)}))
    project = replace(OF_OLD, default_job_type=None)
    made = rules(project, hero)
    day = date(2026, 12, 1)
    asked = modernized(job(client_model="old-2"), {}, project, made, day)
    what = Asked(asked, Wishes(), Caller("key_1", "team"), project, made, day)
    assert job_type_of(what) is hero
    assert [quote.route.model.name for quote in decide(what, hero).quotes] == ["gpt-image-2.5-flare"]
