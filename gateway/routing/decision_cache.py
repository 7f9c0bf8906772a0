"""Decision cache: keeps decisions for requests that differ from an earlier one only in the prompt.

All that has a say is in the question, or keeps the answer from being remembered. The prompt counts by its length alone:
what a request comes to is remembered for each length, what it rests on for all of them.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from datetime import date

from gateway.domain.caller import Caller
from gateway.domain.job import GENERATE, Job, Wishes
from gateway.domain.policy import Policy, Project
from gateway.domain.record import record
from gateway.ports import Body, RequestFacts
from gateway.ports.provider import Conditions
from gateway.routing.consideration import Considered, Moment, Setting, rank, troubles
from gateway.routing.decision import longest_prompt
from gateway.steps.rank import Ranked

_FEW = 4
"""Quotes that are made for all requests at once, rather than when one of them is looked at."""
_WEIGHT = 4
"""Of what is remembered of a request, besides its quotes."""
_RECORD = 8
"""Of what the ledger's record says of it and of its candidate, which are kept with them."""


Question = tuple[Hashable, ...]
"""What is alike of requests that are understood alike; the last two: how long the prompt is, in characters and bytes.

Every request asks one, so it is a plain tuple.
"""


@record(frozen=True, slots=True)
class CachedDecision:
    """What a request came to, and what that rests on. `ranked` is None where it is another each time.

    `longest` is how many characters the prompt of a request may have that rests on the same.
    """

    job: Job
    considered: Considered
    longest: int
    ranked: Ranked | None = None


def question_of(
    facts: RequestFacts, body: Body, caller: Caller, project: Project, wishes: Wishes, *, policy: Policy, today: date
) -> Question | None:
    """Return what to look for; None for a request that has to be looked at by itself. `today` is in UTC."""
    likeness, prompt = body.likeness, body.fields.get("prompt")
    if likeness is None or not prompt or not isinstance(prompt, str) or body.images or body.mask:
        return None
    if facts.operation is not GENERATE or wishes.respond_async:
        return None
    if policy.projects.get(project.name) is not project:
        return None
    return (
        likeness,
        facts.path_model,
        project.name,
        caller.job_type,
        wishes.job_type,
        wishes.lane,
        wishes.degrade,
        today,
        len(prompt),
        len(prompt.encode()),
    )


def recall(question: Question, policy: Policy) -> CachedDecision | None:
    """Return what such a request came to, or one with another prompt; None if nobody knows."""
    known = policy.memory.find(question)
    if isinstance(known, CachedDecision):
        return known
    about, chars, size = _parts(question)
    known = policy.memory.find(about)
    if not isinstance(known, CachedDecision) or chars > known.longest:
        return None
    job = replace(known.job, prompt_chars=chars, prompt_bytes=size)
    return CachedDecision(job, known.considered, known.longest)


def rank_again(
    question: Question, known: CachedDecision, setting: Setting, conditions: Conditions, seed: str
) -> Ranked:
    """Return what it comes to now; `conditions` and `seed` are those of a `Moment`. Raises what `rank` raises."""
    considered = known.considered
    troubled = troubles(considered.routes, conditions)
    if known.ranked is not None and not troubled and setting.wishes.max_cost is None:
        return known.ranked
    ranked = rank(considered, known.job, setting, Moment(conditions, seed))
    return _kept(question, known, ranked, setting.policy)


def as_before(known: CachedDecision, wishes: Wishes, conditions: Conditions) -> Ranked | None:
    """Return what it came to before, if no route at all is in trouble; None where there is more to look at."""
    if wishes.max_cost is not None or conditions.suspects():
        return None
    return known.ranked


def remember(question: Question, policy: Policy, job: Job, considered: Considered, ranked: Ranked) -> None:
    """Keep what a request came to that is answered when it is done, if it was no trial."""
    job_type, longest = considered.job_type, longest_prompt(considered.job_type, policy)
    about, chars, _ = _parts(question)
    if job_type.experiment is None and chars <= longest:
        known = CachedDecision(job, considered, longest)
        policy.memory.keep(about, known, _WEIGHT + considered.weight)
        _kept(question, known, ranked, policy)


def _parts(question: Question) -> tuple[Hashable, int, int]:
    """What is asked but for the prompt, and how long that is, in characters and bytes."""
    *about, chars, size = question
    assert isinstance(chars, int)
    assert isinstance(size, int)
    return tuple(about), chars, size


def _kept(question: Question, known: CachedDecision, ranked: Ranked, policy: Policy) -> Ranked:
    """Keep what a request came to if the next one like it comes to the same; returns its quotes as they are kept."""
    if not ranked.settled:
        return ranked
    quotes = tuple(ranked.quotes) if len(ranked.quotes) <= _FEW else ranked.quotes
    ranked = replace(ranked, quotes=quotes)
    policy.memory.keep(question, replace(known, ranked=ranked), _WEIGHT + _RECORD + len(quotes))
    return ranked
