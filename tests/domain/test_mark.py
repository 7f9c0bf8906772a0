"""Marks tell whether two policies say the same of a project's requests of one job type."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.mark import mark
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.route import RouteLimits
from tests.builders import policy, route

PRINTED = "from tests.domain.test_mark import sample, of; print(of(sample()))"


def sample(**changes: object) -> Policy:
    """A policy with one project and one job type, which takes these changes."""
    kind = replace(JobType("draft", (route("main"),)), **changes)  # type: ignore[arg-type]  # checked by the dataclass
    return policy(*kind.routes, job_type=kind, project=Project("team", ("draft",), "draft"))


def of(rules: Policy) -> str:
    """The mark of the one project and the one job type."""
    return mark(rules, rules.projects["team"], rules.job_types["draft"])


def test_what_such_requests_do_not_meet_changes_nothing() -> None:
    """Another project, another job type, another digest: the mark stays; worked out again it is the same."""
    rules = sample()
    others = replace(
        rules,
        projects={**rules.projects, "other": Project("other", ("draft",), "draft")},
        job_types={**rules.job_types, "hero": JobType("hero", (route("spare"),))},
        digest="1" * 16,
        marks={},
    )
    assert of(rules) == of(others) == of(rules)


def test_what_they_do_meet_changes_it() -> None:
    """A limit of a route, the project's budget, a common one, the job type's defaults: each gives another mark."""
    rules, budget = sample(), Budget(Scope(), Window.DAY, 5)
    team = replace(rules.projects["team"], budgets=(budget,))
    marks = {
        of(rules),
        of(sample(routes=(route("main", limits=RouteLimits(images_per_minute=5)),))),
        of(sample(defaults={"quality": "low"})),
        of(replace(rules, budgets=(budget,), marks={})),
        of(replace(rules, budgets=(replace(budget, limit=6),), marks={})),
        of(replace(rules, projects={"team": team}, marks={})),
    }
    assert len(marks) == 6


def test_it_is_the_same_in_every_process() -> None:
    """Sets are hashed with another seed in each process; the mark is not."""
    told = {
        subprocess.run(
            [sys.executable, "-c", PRINTED],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert told == {of(sample())}
