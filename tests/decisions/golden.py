"""Golden decisions: `python -m tests.decisions.golden` writes what is decided now into the files, to be read by eye.

A file holds `about`, a `policy` as a team would write it, and `cases`. A case says what is asked: `asks` (body fields),
and where they matter `operation`, `images`, `mask`, `headers`, `project`, `day`, `prompt` (characters), `seed`, how
routes are doing (`routes`: seconds of latency, or trouble in words), and `budget_used`, which budgets all stand at.
`expect` is what comes of it, always last: `try` lists the quotes in order as `route: model quality size xN $worst`, and
what else is unusual of them; `chosen` is the one that the budgets leave.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from gateway.config.load import load_policy
from gateway.domain import money
from gateway.domain.budget import Budget, Pressure, Quota
from gateway.domain.caller import Caller
from gateway.domain.choosing import Stands
from gateway.domain.errors import GatewayError
from gateway.domain.job import Job, Operation
from gateway.domain.policy import Order, Policy
from gateway.domain.route import Quote
from gateway.routing.decision import Asked
from gateway.routing.dry_run import Decided, Shape, Undecided, decide_asked
from gateway.steps.accept import accept
from gateway.steps.classify import classify
from gateway.steps.compatibility import modernized

HERE = Path(__file__).parent
TODAY = date(2026, 11, 20)
EXPECT = "expect"


@dataclass(frozen=True)
class Known:
    """How routes are doing, as a case says."""

    routes: Mapping[str, str | float]

    def suspects(self) -> Collection[str]:
        """All that the case names."""
        return self.routes.keys()

    def trouble(self, route: str) -> str | None:
        """Words are trouble."""
        said = self.routes.get(route)
        return said if isinstance(said, str) else None

    def latency(self, route: str, job: Job) -> float | None:  # noqa: ARG002 - the port's, here one for all jobs
        """Numbers are seconds."""
        said = self.routes.get(route)
        return None if said is None or isinstance(said, str) else said


def files() -> list[Path]:
    """Return the golden files."""
    return sorted(HERE.glob("*.yaml"))


def read(file: Path) -> dict[str, Any]:
    """Return a file's content."""
    content = yaml.safe_load(file.read_text())
    assert isinstance(content, dict)
    return content


def policy_of(content: Mapping[str, Any]) -> Policy:
    """Load a file's policy as the gateway would, on the day that cases have if they name none."""
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "policy.yaml").write_text(yaml.safe_dump(content["policy"], sort_keys=False))
        loaded = load_policy(Path(name), environ={}, today=TODAY)
    assert loaded.policy is not None, loaded.problems
    return loaded.policy


def outcome(case: Mapping[str, Any], policy: Policy) -> dict[str, object]:
    """Decide a case, and return what came of it in a form to be read."""
    try:
        decided = decide_asked(_asked(case, policy))
    except Undecided as undecided:
        return _error(undecided.error)
    except GatewayError as error:
        return _error(error)
    return _told(decided, case)


def _asked(case: Mapping[str, Any], policy: Policy) -> Asked:
    fields = {"prompt": "x" * case.get("prompt", 5), **case.get("asks", {})}
    day = case.get("day", TODAY)
    wishes = accept({name.lower(): str(value) for name, value in case.get("headers", {}).items()})
    project = policy.projects[case.get("project", next(iter(policy.projects)))]
    operation = Operation(case.get("operation", "edit" if case.get("images") else "generate"))
    shape = Shape(fields, case.get("images", 0), case.get("mask", False))
    job = modernized(classify(operation, None, shape), fields, project, policy, day)
    caller = Caller("key_1", project.name, case.get("key_job_type"))
    conditions = Known(case["routes"]) if "routes" in case else None
    return Asked(job, wishes, caller, project, policy, day, conditions, seed=case.get("seed", "request-1"))


def _told(decided: Decided, case: Mapping[str, Any]) -> dict[str, object]:
    ranked = decided.ranked
    orders = {decided.job_type.order, *(step.order for step in decided.job_type.degrade)}

    def line(quote: Quote) -> str:
        return _line(quote, decided.asked.job, likely=Order.CHEAPEST in orders)

    told: dict[str, object] = {"try": [line(quote) for quote in ranked.quotes]}
    if len(decided.asked.project.job_types) > 1:
        told = {"job_type": decided.job_type.name, **told}
    if ranked.refusals:
        told["passed_over"] = {refusal.route: refusal.reason for refusal in ranked.refusals}
    if "budget_used" in case:
        choice = decided.choice(_used(case["budget_used"]))
        if choice.index is None:
            told |= _error(decided.denial(choice))
        else:
            told["chosen"] = line(ranked.quotes[choice.index])
    return told


def _used(share: str) -> Any:  # a `choosing.State`, which reads more than it needs here
    part = Fraction(share.removesuffix("%")) / 100

    def state(rule: Budget | Quota) -> Stands:
        return Stands(used=int(rule.limit * part) if isinstance(rule, Budget) else 0)

    return state


def _line(quote: Quote, asked: Job, *, likely: bool) -> str:
    """A quote as one line: the model only where the route's name does not say it, the likely cost where it decides."""
    job, changes = quote.job, quote.changes
    model = "" if quote.route.model.name in quote.route.name else f"{quote.route.model.name} "
    parts = [f"{quote.route.name}: {model}{job.quality} {job.size} x{job.n} ${money.format_usd(quote.worst.route)}"]
    if likely and quote.expected != quote.worst.route:
        parts.append(f"likely ${money.format_usd(quote.expected)}")
    if quote.calls > 1:
        parts.append(f"{quote.calls} calls")
    if quote.as_events:
        parts.append("told as events")
    if quote.pressure != Pressure():
        parts.append(_range(quote.pressure))
    if quote.degraded:
        parts.append("degraded " + " ".join(f"{name}={value}" for name, value in quote.degraded.items()))
    if quote.replaced:
        parts.append(f"instead of {quote.replaced}")
    if changes.get("quality", job.quality) != job.quality:
        parts.append(f"sent as {changes['quality']}")
    if job.stream != asked.stream and not quote.as_events:
        parts.append(f"stream {job.stream}")
    return ", ".join(parts)


def _range(pressure: Pressure) -> str:
    upper = "" if pressure.below is None else f" below {pressure.below / 100:g}%"
    return f"from {pressure.at_least / 100:g}%{upper}"


def _error(error: GatewayError) -> dict[str, object]:
    return {"error": f"{error.status} {error.code}", "param": error.param, "says": error.message}


def cases(file: Path) -> Iterator[tuple[str, Mapping[str, Any], Policy]]:
    """Yield every case of a file with its name and the policy it is decided under."""
    content = read(file)
    policy = policy_of(content)
    for case in content["cases"]:
        yield case["case"], case, policy


def rewritten(file: Path) -> str:
    """Return the file's text with what each case comes to now; all else stays as it is, comments too."""
    content, text = read(file), file.read_text().splitlines()
    policy = policy_of(content)
    node = yaml.compose("\n".join(text))
    assert isinstance(node, yaml.MappingNode)
    listed = next(value for key, value in node.value if key.value == "cases")
    out = text[: listed.start_mark.line]
    starts = [each.start_mark.line for each in listed.value] + [len(text)]
    for case, begin, end in zip(content["cases"], starts, starts[1:], strict=False):
        block = text[begin:end]
        headings = [each for each in block if each.startswith("  #")]
        asked = takewhile(lambda each: each.startswith("   ") and not each.startswith(f"    {EXPECT}:"), block[1:])
        dumped = yaml.safe_dump({EXPECT: outcome(case, policy)}, sort_keys=False, width=10_000, allow_unicode=True)
        out += [block[0], *asked, *(f"    {each}" for each in dumped.splitlines()), "", *headings]
    return "\n".join(out).rstrip("\n") + "\n"


def main() -> None:
    """Write what is decided now into every file."""
    for file in files():
        file.write_text(rewritten(file))
        print(f"{file.name}: {len(read(file)['cases'])} cases")  # noqa: T201 - a command's answer


if __name__ == "__main__":
    main()
