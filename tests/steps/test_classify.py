"""Classify: the fields of a body become a job; what cannot be read is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import pytest

from gateway.domain.caller import Caller
from gateway.domain.errors import Forbidden, GatewayError, InvalidRequest, NotFound
from gateway.domain.job import Operation, Wishes
from gateway.domain.policy import JobType, Match, Policy, Project
from gateway.ports import Inputs, Rendered
from gateway.steps.classify import classify, find_job_type
from tests.builders import job, policy, route


@dataclass
class FieldsOnly:
    """A body that consists of its fields; nothing here is ever sent."""

    fields: Mapping[str, object]
    encoding: Literal["json", "multipart"] = "json"
    images: int = 0
    mask: bool = False
    fingerprint: str | None = None
    likeness: None = None
    closed: bool = field(default=False)

    def render(self, changes: Mapping[str, str | int | None]) -> Rendered:
        """Not asked for by these tests."""
        raise AssertionError(changes)

    async def inputs(self) -> Inputs:
        """None."""
        return Inputs()

    async def aclose(self) -> None:
        """Nothing to free."""
        self.closed = True


def refusal(fields: Mapping[str, object], encoding: Literal["json", "multipart"] = "json") -> GatewayError:
    """The error of a generation with these fields and a prompt."""
    with pytest.raises(InvalidRequest) as caught:
        classify(Operation.GENERATE, None, FieldsOnly({"prompt": "a cat", **fields}, encoding))
    return caught.value


@pytest.mark.parametrize("n", [0, -1, 11, 10**9, 2**64, "3", True, 1.5, 1.0, [1], {}])
def test_a_number_of_images_that_is_none_is_refused(n: object) -> None:
    """`n` is a whole number from 1 to 10 and nothing else; the error names it."""
    error = refusal({"n": n})

    assert (error.param, error.status) == ("n", 400)
    assert "from 1 to 10" in error.message


@pytest.mark.parametrize("n", ["0", "-1", "11", "1e1", "\uff11", "", "9" * 5000, "10".zfill(13), "1".zfill(13)])
def test_a_form_carries_numbers_as_text(n: str) -> None:
    """The same rule for the digits of a form field."""
    assert refusal({"n": n}, "multipart").param == "n"
    body = FieldsOnly({"prompt": "a cat", "n": "4", "stream": "true"}, "multipart")
    assert (classify(Operation.GENERATE, None, body).n, classify(Operation.GENERATE, None, body).stream) == (4, True)


@pytest.mark.parametrize("fields", [{"prompt": 3}, {"prompt": None}, {"prompt": ""}, {"prompt": "x" * 32_001}])
def test_the_prompt_is_text_within_the_vendors_limit(fields: Mapping[str, object]) -> None:
    """Missing, empty, too long or no text."""
    assert refusal(fields).param == "prompt"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("size", 1024),
        ("quality", ["high"]),
        ("stream", "true"),
        ("stream", 1),
        ("model", 5),
    ],
)
def test_fields_of_the_wrong_type_are_named(name: str, value: object) -> None:
    """The error says which field and what it must be."""
    assert refusal({name: value}).param == name


def test_partial_images_count_only_in_a_stream() -> None:
    """Without `stream` the provider sends none, so none is priced."""
    fields = {"prompt": "a cat", "partial_images": 3}

    assert classify(Operation.GENERATE, None, FieldsOnly(fields)).partial_images == 0
    assert classify(Operation.GENERATE, None, FieldsOnly({**fields, "stream": True})).partial_images == 3


def test_input_images_make_an_edit() -> None:
    """`image_urls` on a generation is an edit; an edit without an image is refused."""
    body = FieldsOnly({"prompt": "a cat"}, images=2)

    assert classify(Operation.GENERATE, None, body).operation is Operation.EDIT
    with pytest.raises(InvalidRequest, match="input image"):
        classify(Operation.EDIT, None, FieldsOnly({"prompt": "a cat"}))


def test_what_a_price_depends_on_is_read() -> None:
    """A mask and a fidelity cost input tokens, a resolution is written here in one way, and a user has two names."""
    said = {"prompt": "a cat", "input_fidelity": "high", "resolution": "2k", "user": "u", "safety_identifier": "s"}
    found = classify(Operation.EDIT, None, FieldsOnly(said, images=1, mask=True))

    assert (found.mask, found.references, found.input_fidelity) == (True, 1, "high")
    assert (found.resolution, found.user) == ("2K", "s")
    assert classify(Operation.EDIT, None, FieldsOnly({**said, "safety_identifier": None}, images=1)).user == "u"


def test_prompts_are_measured_in_utf_8() -> None:
    """Text tokens are bounded by bytes, not by characters."""
    found = classify(Operation.GENERATE, "deployment", FieldsOnly({"prompt": "é€"}))

    assert (found.prompt_chars, found.prompt_bytes, found.client_model) == (2, 5, "deployment")


@pytest.mark.parametrize(
    ("path", "named", "expected"),
    [
        ("deployment", "gpt-image-2", "deployment"),
        ("deployment", None, "deployment"),
        ("deployment", "job:hero", "job:hero"),
        (None, "gpt-image-2", "gpt-image-2"),
    ],
)
def test_a_deployment_in_the_path_is_the_model(path: str | None, named: str | None, expected: str) -> None:
    """As at Azure, where the body's model says nothing; a job type is nothing that Azure knows."""
    assert classify(Operation.GENERATE, path, FieldsOnly({"prompt": "x", "model": named})).client_model == expected


def many_job_types() -> tuple[Policy, Project]:
    """Four job types, one found by a rule; the project may use three of them."""
    hero = JobType("hero", (route("a"),), Match({"quality": ("high",), "operation": ("generate",)}))
    edit = JobType("edit", (route("a"),), Match({"operation": ("edit",)}))
    project = Project("team", ("hero", "edit", "draft"), "draft")
    base = policy(route("a"), project=project)
    kinds = {kind.name: kind for kind in (hero, edit, JobType("draft", ()), JobType("secret", ()))}
    return Policy(base.models, base.providers, base.routes, kinds, base.projects, (), ""), project


def test_a_key_for_a_job_type_that_its_project_lost_does_nothing() -> None:
    """Its policy was changed after the key was made: the budget and routes of that job type are others' now."""
    rules, project = many_job_types()

    with pytest.raises(Forbidden, match="secret"):
        find_job_type(job(), Wishes(), Caller("k", "team", "secret"), project, rules)


def test_a_rule_finds_no_job_type_of_others() -> None:
    """Though it comes first, and holds."""
    rules, project = many_job_types()
    theirs = JobType("secret", (route("a"),), Match({"quality": ("high",)}))
    rules = replace(rules, job_types={"secret": theirs, **{n: k for n, k in rules.job_types.items() if n != "secret"}})

    assert find_job_type(job(quality="high"), Wishes(), Caller("k", "team"), project, rules).name == "hero"


@pytest.mark.parametrize(
    ("wish", "model", "key", "quality", "expected"),
    [
        ("edit", "job:hero", "hero", "high", "edit"),
        (None, "job:edit", "hero", "high", "edit"),
        (None, "gpt-image-2", "edit", "high", "edit"),
        (None, "gpt-image-2", None, "high", "hero"),
        (None, None, None, "low", "draft"),
    ],
)
def test_the_job_type_is_found_in_the_documented_order(
    wish: str | None, model: str | None, key: str | None, quality: str, expected: str
) -> None:
    """Header, then `job:` model, then the key's own, then the first rule that holds, then the default."""
    rules, project = many_job_types()

    found = find_job_type(
        job(client_model=model, quality=quality), Wishes(job_type=wish), Caller("k", "team", key), project, rules
    )

    assert found.name == expected


def test_job_types_of_others_are_not_to_be_had() -> None:
    """403, by header and by model alike; 404 for a model whose job type nobody has."""
    rules, project = many_job_types()

    with pytest.raises(Forbidden) as by_header:
        find_job_type(job(), Wishes(job_type="secret"), Caller("k", "team"), project, rules)
    with pytest.raises(Forbidden) as by_model:
        find_job_type(job(client_model="job:secret"), Wishes(), Caller("k", "team"), project, rules)
    with pytest.raises(NotFound) as unknown:
        find_job_type(job(client_model="job:nobody"), Wishes(), Caller("k", "team"), project, rules)

    assert (by_header.value.code, by_model.value.code) == ("job_type_not_allowed",) * 2
    assert (by_model.value.param, unknown.value.code) == ("model", "model_not_found")
