"""What the proof of a provider is made of: its configuration, what may be asked of it, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Fields = Mapping[str, Any]
Choices = Mapping[str, Sequence[object]]


@dataclass(frozen=True, slots=True)
class Sold:
    """One thing that a provider sells. `route` is what policy says of it beside its provider.

    `fields` are what a request may say, each with the values to choose from (None leaves it out). `edits` is how many
    input images it takes at most; 0 is none. `settled` is how its cost is known.
    """

    route: str
    fields: Choices
    settled: str
    edits: int = 0
    generates: bool = True
    masks: bool = False
    streams: bool = False
    required_mask: bool = False


@dataclass(frozen=True, slots=True)
class Slip:
    """Something that goes wrong once, for one of the mixed requests, and what the client then gets.

    `fewer` is how many images are missing. `only` is what must be asked for to meet it, where that matters. What is
    booked must be what is billed all the same.
    """

    fault: str
    parameters: Fields = field(default_factory=dict)
    status: int = 200
    fewer: int = 0
    only: str = ""


@dataclass(frozen=True, slots=True)
class Failing:
    """An error that a provider answers with, and what becomes of it.

    The client gets `status`, `code` and `param` (None for whatever it is); `calls` are how often the provider was
    asked. `presumed` tells that the worst case is booked, for nobody knows what was billed; `cautious` that at least
    the bill is booked, for the price says that such may be charged; else the bill is booked. `said` is a piece of the
    message, and `asked` what the request says.
    """

    name: str
    fault: str
    parameters: Fields
    status: int
    code: str | None = None
    param: str | None = None
    calls: int = 1
    presumed: bool = False
    cautious: bool = False
    said: str = ""
    times: int | None = None
    asked: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider. `configured` is what policy says of it, `at` its persona's path, `persona` its name in faults.

    `looks` tells that its persona fetches the input images that it is told by URL.
    """

    name: str
    persona: str
    configured: str
    at: str
    sold: Mapping[str, Sold]
    failing: Sequence[Failing] = ()
    slips: Sequence[Slip] = ()
    looks: bool = True

    @property
    def first(self) -> str:
        """The job type of the first thing it sells."""
        return self.job_type(next(iter(self.sold)))

    def job_type(self, sold: str) -> str:
        """The job type whose only route leads to it."""
        return f"{self.name}.{sold}"


def policy(providers: Sequence[Provider], models: str = "") -> str:
    """A policy with a job type for each thing that is sold: one route, the catalog's price, and no other rule."""
    lines = ['egress: {allow: ["127.0.0.0/8"]}', "providers:"]
    lines += [
        f'  {each.name}: {{{each.configured}, base_url: "${{SANDBOX_URL}}{each.at}", api_key: "${{SANDBOX_KEY}}"}}'
        for each in providers
    ]
    routes = [(each, name, sold) for each in providers for name, sold in each.sold.items()]
    lines += ["routes:", *(f"  {p.name}/{name}: {{provider: {p.name}, {sold.route}}}" for p, name, sold in routes)]
    lines += ["job_types:", *(f"  {p.job_type(name)}: {{routes: [{p.name}/{name}]}}" for p, name, _ in routes)]
    names = ", ".join(p.job_type(name) for p, name, _ in routes)
    lines += [
        "projects:",
        "  team:",
        f"    job_types: [{names}]",
        f"    default_job_type: {providers[0].first}",
        "    lanes: [production, testing]",
        '    budgets: [{window: total, limit: "100000"}]',
        '    chargeback: {multiplier: "1.15"}',
    ]
    return models + "\n".join(lines) + "\n"
