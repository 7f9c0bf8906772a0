"""What choosing takes: CPU time of one decision among 200 routes, for one project and for a thousand.

`python benchmarks/choosing.py [--quick]` prints a table in Markdown. Requests differ in prompt, number of images, size,
quality and project, as those of a busy gateway do. `first` is a job of a shape that was not seen before, `chosen` a
job of one that was: the mean of a round, the median of rounds. `all quotes` has every quote made as well, as a hold
that offers all 200 routes to the ledger needs them; most requests look at a few.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from gateway.domain.budget import Budget, Scope, Window
from gateway.domain.caller import Caller
from gateway.domain.job import Job, Wishes
from gateway.domain.policy import DegradeStep, JobType, Order, Policy, Project
from gateway.domain.route import ProviderConfig
from gateway.routing.decision import Asked, decide, job_type_of
from tests.builders import GPT_IMAGE_2, GPT_IMAGE_15, GPT_IMAGE_25, TODAY, job, route

ROUTES = 200
GOAL_MS = 0.2


class Well:
    """Routes of which the latency is known, and nothing is wrong."""

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


def row(projects: int, order: Order, *, ladder: bool, count: int, rounds: int) -> str:
    """Measure one row of the table."""
    rules = policy(projects, order, ladder=ladder)
    first = [spent([replace(asked, policy=replace(rules))]) for asked in requests(rules, rounds, 1)]
    spent(requests(rules, count * 2, 2))
    chosen = statistics.median(spent(requests(rules, count, seed)) for seed in range(3, 3 + rounds))
    made = statistics.median(spent(requests(rules, count // 10, seed), look=True) for seed in range(3, 3 + rounds))
    kinds = f"{order}{', three rungs' if ladder else ''}"
    return f"| {kinds} | {projects} | {statistics.median(first):.1f} ms | {chosen:.3f} ms | {made:.2f} ms |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the requests, to see that it runs")
    count = 200 if parser.parse_args().quick else 2000
    print(f"{ROUTES} routes, {count} requests a round. The goal: chosen in less than {GOAL_MS} ms.")
    print("\n| order | projects | first | chosen | all quotes |\n|---|--:|--:|--:|--:|")
    for order in (Order.LISTED, Order.CHEAPEST):
        for projects in (1, 1000):
            print(row(projects, order, ladder=False, count=count, rounds=5), flush=True)
    for order, ladder in ((Order.FASTEST, False), (Order.WEIGHTED, False), (Order.LISTED, True)):
        print(row(1000, order, ladder=ladder, count=count, rounds=5), flush=True)


if __name__ == "__main__":
    main()
