"""Classify: read and validate the fields that prices and policy depend on; find what the images are for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from gateway.domain.caller import Caller
from gateway.domain.errors import Forbidden, InvalidRequest, NotFound
from gateway.domain.job import AUTO, JOB_PREFIX, Job, Operation, Wishes
from gateway.domain.policy import JobType, Match, Policy, Project
from gateway.domain.tiers import RESOLUTIONS
from gateway.ports import Shape

MAX_N = 10
MAX_PARTIAL_IMAGES = 3
MAX_PROMPT_CHARS = 32_000
_LONGEST_WORD = 100
"""Characters; no provider has a longer one, and what refuses or plans a request tells it once for each route."""

_DIGITS = re.compile(r"[0-9]{1,12}", re.ASCII)
"""A number in a form, read whole: the provider reads all of its digits too."""


def classify(operation: Operation, path_model: str | None, body: Shape) -> Job:
    """Return the job a body asks for; InvalidRequest names the field and what is allowed.

    Fields and values that only the vendor gives a meaning to are left alone: they travel in the body.
    """
    read = Fields(body.fields, body.encoding)
    if operation is Operation.GENERATE and body.images:
        operation = Operation.EDIT
    if operation is Operation.EDIT and not body.images:
        raise InvalidRequest(
            "An edit needs at least one input image.", param="image", code="missing_required_parameter"
        )
    prompt = read.text("prompt")
    if not prompt:
        raise InvalidRequest("You must provide a prompt.", param="prompt", code="missing_required_parameter")
    if len(prompt) > MAX_PROMPT_CHARS:
        message = f"The prompt has {len(prompt)} characters; at most {MAX_PROMPT_CHARS} are allowed."
        raise InvalidRequest(message, param="prompt", code="string_above_max_length")
    stream = read.boolean("stream")
    return Job(
        operation=operation,
        client_model=_client_model(read.text("model"), path_model),
        prompt_chars=len(prompt),
        prompt_bytes=len(prompt.encode()),
        n=read.integer("n", 1, MAX_N, default=1),
        size=(read.word("size") or AUTO).replace("\N{MULTIPLICATION SIGN}", "x"),  # EvoLink's own clients write either
        quality=read.word("quality") or AUTO,
        background=read.word("background") or AUTO,
        output_format=read.word("output_format"),
        input_fidelity=read.word("input_fidelity"),
        mask=body.mask,
        references=body.images,
        stream=stream,
        partial_images=read.integer("partial_images", 0, MAX_PARTIAL_IMAGES, default=0) if stream else 0,
        user=read.text("safety_identifier") or read.text("user"),
        resolution=_resolution(read.text("resolution")),
    )


def _client_model(named: str | None, path_model: str | None) -> str | None:
    """Return the model that the client asks for: the deployment in its path goes before the body, but for a job type.

    Azure answers by the path alone, and its SDKs leave in the body whatever their caller wrote.
    """
    if path_model and not (named or "").startswith(JOB_PREFIX):
        return path_model
    return named or path_model


def _resolution(word: str | None) -> str | None:
    """Return how large a ratio is to be made, as it is written here."""
    known = None if word is None else word.upper()
    if known is not None and known not in RESOLUTIONS:
        raise InvalidRequest(f"resolution must be one of {', '.join(RESOLUTIONS)}.", param="resolution")
    return known


class Fields:
    """Typed access to body fields: JSON keeps its types, a form has text alone, null is left out."""

    def __init__(self, fields: Mapping[str, object], encoding: Literal["json", "multipart"]) -> None:
        self._fields = fields
        self._is_form = encoding == "multipart"

    def text(self, name: str) -> str | None:
        """Return a string; None if it was left out."""
        value = self._fields.get(name)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"{name} must be a string, not {_kind(value)}.", param=name, code="invalid_type")
        return value

    def word(self, name: str) -> str | None:
        """Return a string that is to be one of a few words."""
        text = self.text(name)
        if text is not None and len(text) > _LONGEST_WORD:
            message = f"{name} has {len(text)} characters; at most {_LONGEST_WORD} are allowed."
            raise InvalidRequest(message, param=name, code="string_above_max_length")
        return text

    def integer(self, name: str, low: int, high: int, *, default: int) -> int:
        """Return a whole number within bounds."""
        value = self._fields.get(name)
        if value is None:
            return default
        if self._is_form and isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            message = f"{name} must be a whole number from {low} to {high}, not {_kind(value)}."
            raise InvalidRequest(message, param=name, code="invalid_type")
        if not low <= value <= high:
            raise InvalidRequest(f"{name} must be from {low} to {high}.", param=name)
        return value

    def boolean(self, name: str) -> bool:
        """Return a truth value; False if it was left out."""
        value = self._fields.get(name)
        if value is None:
            return False
        if self._is_form and isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise InvalidRequest(f"{name} must be true or false, not {_kind(value)}.", param=name, code="invalid_type")
        return value


def _kind(value: object) -> str:
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "a boolean"),
        (int, "an integer"),
        (float, "a number with a fraction"),
        (str, "a string"),
        (list, "an array"),
        (dict, "an object"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "this")


def find_job_type(job: Job, wishes: Wishes, caller: Caller, project: Project, policy: Policy) -> JobType:
    """Return the job type, in this order: header, `model: "job:…"`, the key's own, first matching rule, default."""
    named = _named(job, wishes, caller, project, policy)
    if named is not None:
        return policy.job_types[named]
    for name, job_type in policy.job_types.items():
        if name in project.job_types and job_type.match and holds(job_type.match, job):
            return job_type
    default = project.default_job_type or (project.job_types[0] if len(project.job_types) == 1 else None)
    if default is not None:
        return policy.job_types[default]
    raise InvalidRequest(
        f"Say what the image is for: send X-Gateway-Job-Type with one of {', '.join(project.job_types)}.",
        param="X-Gateway-Job-Type",
    )


def _named(job: Job, wishes: Wishes, caller: Caller, project: Project, policy: Policy) -> str | None:
    allowed = ", ".join(project.job_types)
    if wishes.job_type is not None and wishes.job_type not in project.job_types:
        raise _forbidden(wishes.job_type, project, "X-Gateway-Job-Type")
    model = job.client_model or ""
    by_model = model.removeprefix(JOB_PREFIX) if model.startswith(JOB_PREFIX) else None
    if wishes.job_type is not None:
        return wishes.job_type
    if by_model is not None and by_model not in project.job_types:
        if by_model in policy.job_types:
            raise _forbidden(by_model, project, "model")
        message = f"The model {model[:100]!r} does not exist or you do not have access to it. Job types: {allowed}."
        raise NotFound(message, param="model", code="model_not_found")
    if by_model is not None:
        return by_model
    if caller.job_type is not None and caller.job_type not in project.job_types:
        message = f"This key is for job type {caller.job_type!r}, which project {project.name!r} may not use"
        raise Forbidden(f"{message}, only {allowed}.")
    return caller.job_type


def _forbidden(job_type: str, project: Project, param: str) -> Forbidden:
    allowed = ", ".join(project.job_types)
    message = f"Job type {job_type!r} is not one that project {project.name!r} may use: {allowed}."
    return Forbidden(message, param=param)


def holds(match: Match, job: Job) -> bool:
    """Tell whether a rule that finds a job type holds for a job."""
    values: dict[str, object] = {
        "operation": str(job.operation),
        "model": job.client_model,
        "quality": job.quality,
        "size": job.size,
        "background": job.background,
        "output_format": job.output_format,
        "mask": job.mask,
        "stream": job.stream,
        "n": job.n,
        "references": job.references,
    }
    return all(values[field] in allowed for field, allowed in match.fields.items())
