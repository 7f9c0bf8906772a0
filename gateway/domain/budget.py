"""Budgets, quotas, and the lines of a hold: what is checked and counted in one atomic step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.domain.record import record


class Window(StrEnum):
    """Calendar windows of money, UTC by the store's clock; a week starts on Monday."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    TOTAL = "total"


class View(StrEnum):
    """Whose price: the vendor's published one, the route's, or the project's own."""

    OFFICIAL = "official"
    ROUTE = "route"
    INTERNAL = "internal"


@record(frozen=True, slots=True)
class Scope:
    """What a budget or quota applies to; a part that is None applies to all. Everything None is the whole gateway."""

    project: str | None = None
    key: str | None = None
    job_type: str | None = None
    route: str | None = None
    provider: str | None = None
    shadow: str | None = None
    """The job type whose shadow requests are meant; these fall under no other scope but a route's or a provider's."""

    @property
    def is_upstream(self) -> bool:
        """Whether it is a route or an account alone, whoever asks."""
        anybody = (self.project, self.key, self.job_type) == (None, None, None)
        return anybody and (self.route, self.provider) != (None, None)

    def label(self) -> str:
        """Return a stable name, such as `project:marketing+job_type:hero_image` or `everything`."""
        parts = (
            ("project", self.project),
            ("key", self.key),
            ("job_type", self.job_type),
            ("route", self.route),
            ("provider", self.provider),
            ("shadow", self.shadow),
        )
        return "+".join(f"{kind}:{name}" for kind, name in parts if name is not None) or "everything"

    def covers(self, *, project: str, key: str, job_type: str, route: str, provider: str) -> bool:
        """Tell whether an ordinary request with these names falls under the scope; a shadow's is no such request's."""
        if self.shadow is not None or self.project not in (None, project) or self.key not in (None, key):
            return False
        return self.job_type in (None, job_type) and self.route in (None, route) and self.provider in (None, provider)


@dataclass(frozen=True, slots=True)
class Budget:
    """Money per calendar window for a scope. `limit` is micro-USD."""

    scope: Scope
    window: Window
    limit: int
    view: View = View.ROUTE
    meter: str = field(init=False, repr=False, compare=False)
    """The counter's name in the ledger; independent of the limit, so that a new limit keeps what was spent."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meter", f"usd|{self.scope.label()}|{self.view}|{self.window}")


def view_of(cell: str) -> View:
    """Return the view in which a balance of money counts, by its name: a budget's meter, and often its window."""
    name = cell.split("|")[-2:][0]
    return View(name) if name in list(View) else View.ROUTE


class Counted(StrEnum):
    """What a quota counts."""

    IMAGES = "images"
    REQUESTS = "requests"
    TOKENS = "tokens"
    CONCURRENT = "concurrent"


@dataclass(frozen=True, slots=True)
class Quota:
    """Images, requests or tokens per rolling window of `seconds`, or requests in flight (0 seconds), for a scope."""

    scope: Scope
    counted: Counted
    limit: int
    seconds: int = 0
    meter: str = field(init=False, repr=False, compare=False)
    """The counter's name in the ledger."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meter", f"{self.counted}|{self.scope.label()}|{self.seconds}")


@record(frozen=True, slots=True)
class Line:
    """One thing to check and count: a budget and the micro-USD a hold takes of it, or a quota and a count."""

    rule: Budget | Quota
    amount: int


@dataclass(frozen=True, slots=True)
class Pressure:
    """A range of budget use in which a candidate may be chosen: the largest share of any of its budgets, basis points.

    Use is what is spent and held before this request; a limit of 0 is used up, and without any budget use is 0. `below`
    None is no upper end; at or above it the candidate is refused. Below `at_least` it is passed over, unless one before
    it was refused at a `below` not less than this `at_least`, or had no room on a budget, whatever else was in its way:
    a smaller picture may still fit.
    """

    at_least: int = 0
    below: int | None = None


@record(frozen=True, slots=True)
class Candidate:
    """A route with all the lines a hold on it takes, and its worst case for the record (nano-USD)."""

    route: str
    lines: tuple[Line, ...]
    facts: dict[str, object] = field(default_factory=dict)
    """What the entry stream shall say of this attempt: route, model, provider, worst case by view, price date."""
    pressure: Pressure = field(default_factory=Pressure)
    written: str | None = field(default=None, init=False, repr=False, compare=False)
    """How it is written for the ledger's scripts, once it was: many requests may be offered the very same candidate."""


@record(frozen=True, slots=True)
class Obstacle:
    """A line that stood in the way. `used` and `held` are in the line's unit; `wait` is seconds until it may pass."""

    line: Line
    used: int
    held: int
    wait: float


@record(frozen=True, slots=True)
class Held:
    """Admitted: which candidate (index into those offered), which attempt of the request, what remains on its lines.

    `figures` are two a line: what is left, and in how many milliseconds the window turns or room returns.
    """

    index: int
    attempt: int
    lines: Sequence[Line] = ()
    figures: Sequence[int] = ()


@record(frozen=True, slots=True)
class Denied:
    """Refused, nothing held: for each candidate offered, in order, every line that stood in the way."""

    obstacles: tuple[tuple[Obstacle, ...], ...]
