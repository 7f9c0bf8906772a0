"""What choosing takes: CPU time of one decision among 200 routes, for one project and for a thousand.

Requests differ in prompt, number of images, size,
quality and project, as those of a busy gateway do. `first` is a job of a shape that was not seen before, `chosen` a
job of one that was: the mean of a round, the median of rounds. `all quotes` has every quote made as well, as a hold
that offers all 200 routes to the ledger needs them; most requests look at a few.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction

from benchmarks.bench import Bench
from benchmarks.report import Section
from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.caller import Caller
from gateway.domain.job import Job, Wishes
from gateway.domain.policy import DegradeStep, JobType, Order, Policy, Project
from gateway.domain.route import ProviderConfig
from gateway.routing.decision import Asked, decide, job_type_of
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, GPT_IMAGE_25, TODAY, job, route

ROUTES = 200


class Well:
    """Routes of which the latency is known, and nothing is wrong."""

    def suspects(self) -> Collection[str]:
        """Return none in particular."""
        return ()

    def trouble(self, _route: str) -> str | None:
        """Return that nothing is."""
        return None

    def latency(self, route: str, _job: Job) -> float | None:
        """Return some seconds."""
        return float(len(route))


def policy(projects: int, order: Order, *, ladder: bool) -> Policy:
    """Return a policy with one job type of 200 routes over 20 accounts, and this many projects."""
    models = (GPT_IMAGE_2, GPT_IMAGE_25, GPT_IMAGE_15)
    accounts = [ProviderConfig(f"account-{number}", "openai", "http://127.0.0.1:1/v1", None) for number in range(20)]
    routes = tuple(
        replace(route(f"route-{number:03}", models[number % 3]), provider=accounts[number % 20])
        for number in range(ROUTES)
    )
    steps = (DegradeStep(8000, {"quality": "medium"}), DegradeStep(9500, {"quality": "low"})) if ladder else ()
    kind = JobType("hero", routes, order=order, degrade=steps)
    teams = [
        Project(
            f"team-{number:04}",
            (kind.name,),
            kind.name,
            budgets=(Budget(Scope(project=f"team-{number:04}"), Window.DAY, 50_000_000),),
            multiplier=Fraction(115, 100) if number % 2 else Fraction(1),
        )
        for number in range(projects)
    ]
    return Policy(
        models={model.name: model for model in models},
        providers={account.name: account for account in accounts},
        routes={each.name: each for each in routes},
        job_types={kind.name: kind},
        projects={team.name: team for team in teams},
        budgets=(),
        digest="0" * 16,
    )


def requests(rules: Policy, count: int, seed: int) -> list[Asked]:
    """Return requests of 18 shapes, prompts of a hundred to a thousand characters, over all projects."""
    draw = random.Random(seed)  # noqa: S311 - a workload that is the same each time
    projects, found = list(rules.projects.values()), []
    for number in range(count):
        length = draw.randint(100, 1000)
        asked = job(
            prompt_chars=length,
            prompt_bytes=length,
            n=draw.choice((1, 1, 1, 4)),
            size=draw.choice(("1024x1024", "1536x1024", "1024x1536")),
            quality=draw.choice(("low", "medium", "high")),
            user=f"user-{number}",
        )
        project = draw.choice(projects)
        caller = Caller("key_1", project.name)
        found.append(Asked(asked, Wishes(), caller, project, rules, TODAY, Well(), f"request-{number}"))
    return found


def spent(asks: Sequence[Asked], *, look: bool = False) -> float:
    """Return the CPU time of one decision, milliseconds, on average; with `look` all its quotes are made too."""
    began = time.process_time()
    for asked in asks:
        ranked = decide(asked, job_type_of(asked))
        if look:
            list(ranked.quotes)
    return (time.process_time() - began) * 1000 / len(asks)


def row(projects: int, order: Order, *, ladder: bool, count: int, rounds: int) -> tuple[float, ...]:
    """Measure one row of the table: first, chosen and all quotes, milliseconds."""
    rules = policy(projects, order, ladder=ladder)
    first = [spent([replace(asked, policy=replace(rules))]) for asked in requests(rules, rounds, 1)]
    spent(requests(rules, count * 2, 2))
    chosen = [spent(requests(rules, count, seed)) for seed in range(3, 3 + rounds)]
    made = [spent(requests(rules, count // 10, seed), look=True) for seed in range(3, 3 + rounds)]
    return statistics.median(first), statistics.median(chosen), statistics.median(made)


def run(bench: Bench) -> list[Section]:
    """Return the table."""
    count, rounds = (50, 1) if bench.quick else (2_000, 5)
    shown = Section("Choosing among 200 routes", ("order", "projects", "first", "chosen", "all quotes"))
    kinds = [(order, projects, False) for order in (Order.LISTED, Order.CHEAPEST) for projects in (1, 1_000)]
    kinds += [(Order.FASTEST, 1_000, False), (Order.WEIGHTED, 1_000, False), (Order.LISTED, 1_000, True)]
    for order, projects, ladder in kinds:
        first, chosen, made = row(projects, order, ladder=ladder, count=count, rounds=rounds)
        name = f"{order}{', three rungs' if ladder else ''}"
        shown.rows.append((name, f"{projects:,}", f"{first:.1f} ms", f"{chosen:.3f} ms", f"{made:.2f} ms"))
        shown.figures[f"choosing.{name}.{projects}"] = chosen
    shown.notes.append(
        f"Processor time of one decision; {count:,} requests a round, in 18 shapes. `first` is a job of a shape that "
        "was not seen before, `chosen` one of a shape that was, `all quotes` has all 200 quotes made as well (600 with "
        "three rungs), as a hold that offers every one of them needs them."
    )
    return [shown]
