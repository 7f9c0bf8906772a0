"""Compatibility: what clients of retired models ask for, in terms of what exists. It is data of the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from gateway.domain.errors import InvalidRequest
from gateway.domain.job import AUTO, Job, Size
from gateway.domain.naming import in_place_of, is_retired, model_named
from gateway.domain.policy import Policy, Project
from gateway.domain.route import Legacy, Model
from gateway.domain.unsent_fields import ANSWER_FORM

_LINKS, _FORMS = "url", ("url", "b64_json")


def modernized(job: Job, fields: Mapping[str, object], project: Project, policy: Policy, today: date) -> Job:
    """Return the job as it is meant now; but for the form of the answer the same one unless the clients are of old.

    `fields` are those of the body. The model becomes the first of its replacements that still answers. Quality and
    size are mapped as the named model's `legacy` says, if it has retired. Under any other name, or none, or where that
    has no words to map, whatever the model does not know itself is understood as any retired model's `legacy` has it.
    What the request leaves out is as the retired model that it names had it by default. Fields are dropped that any
    `legacy` lists.
    InvalidRequest if the form of the answer is neither of the two there were.
    """
    if not project.legacy:
        return _in_form(job, fields)
    named = model_named(job.client_model, policy)
    own = named.legacy if named is not None and is_retired(named, today) else None
    having = [(model, model.legacy) for model in policy.models.values() if model.legacy is not None]
    known = [legacy for model, legacy in having if is_retired(model, today)]
    knowing = named
    if own is not None and (own.quality or own.sizes):
        known, knowing = [own], None
    defaults = own.defaults if own else {}
    assumed = tuple(name for name in ("quality", "size") if name in defaults and getattr(job, name) == AUTO)
    quality = _quality(defaults["quality"] if "quality" in assumed else job.quality, known, knowing)
    size = _size(defaults["size"] if "size" in assumed else job.size, known, knowing)
    answering = None if named is None else _answering(named, policy, today)
    dropped = {ANSWER_FORM, *(name for _, legacy in having for name in legacy.drop)}
    return replace(
        job,
        client_model=job.client_model if answering is None else answering.name,
        retired_model=job.client_model if answering is not named else None,
        quality=quality,
        size=size,
        links=_wants_links(fields.get(ANSWER_FORM), own) and not job.stream,
        dropped=tuple(sorted(dropped.intersection(fields))),
        mapped=tuple(
            name for name, now, was in (("quality", quality, job.quality), ("size", size, job.size)) if now != was
        ),
        assumed=assumed,
    )


def _in_form(job: Job, fields: Mapping[str, object]) -> Job:
    """Take up the form of the answer, which is the gateway's own business."""
    if ANSWER_FORM not in fields:
        return job
    form = fields[ANSWER_FORM]
    links = form is not None and _wants_links(form, None) and not job.stream
    return replace(job, links=links, dropped=(ANSWER_FORM,))


def _answering(model: Model, policy: Policy, today: date) -> Model:
    """The model itself, or the first of its replacements that has not retired; itself if there is none."""
    return next((each for each in in_place_of(model, policy, today) if not is_retired(each, today)), model)


def _quality(word: str, known: Sequence[Legacy], model: Model | None) -> str:
    if model is not None and word in model.capabilities.quality:
        return word
    return next((legacy.quality[word] for legacy in known if word in legacy.quality), word)


def _size(text: str, known: Sequence[Legacy], model: Model | None) -> str:
    size = Size.parse(text)
    if model is not None and size is not None and model.capabilities.sizes.refusal(size) is None:
        return text
    return next((legacy.sizes[text] for legacy in known if text in legacy.sizes), text)


def _wants_links(form: object, legacy: Legacy | None) -> bool:
    if form is None:
        return legacy is not None and legacy.links
    if form not in _FORMS:
        code = None if isinstance(form, str) else "invalid_type"
        raise InvalidRequest(f"{ANSWER_FORM} must be one of {', '.join(_FORMS)}.", param=ANSWER_FORM, code=code)
    return form == _LINKS
