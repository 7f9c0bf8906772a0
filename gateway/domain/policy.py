"""What policy files become: routes, job types, projects and budgets, resolved and ready to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from gateway.domain.addresses import Egress
from gateway.domain.batch import Collecting
from gateway.domain.budget import Budget, Quota
from gateway.domain.money import ONE
from gateway.domain.passing import PassRules
from gateway.domain.responses import ResponsesRules, TextModel
from gateway.domain.route import Model, ProviderConfig, Route, Secret
from gateway.domain.weighted_cache import WeightedCache


class ClientModel(StrEnum):
    """What happens when the client names a vendor model: that one or an error, that one first, or nothing."""

    HONOUR = "honour"
    PREFER = "prefer"
    IGNORE = "ignore"


class OnUnknown(StrEnum):
    """After an attempt that may have been billed: its worst case is booked, and the request fails or goes on.

    `HOLD` and `FAIL` both end it; `NEXT_ROUTE` takes a second hold, on a route not tried yet.
    """

    HOLD = "hold"
    NEXT_ROUTE = "next_route"
    FAIL = "fail"


class Order(StrEnum):
    """Which of a job type's routes comes first; ties, and routes of which nothing is known, go by the list.

    Costs compare what this very request is expected to cost, latencies what was measured lately for its size class and
    quality; weighted draws at random in proportion to the weights.
    """

    LISTED = "listed"
    CHEAPEST = "cheapest"
    FASTEST = "fastest"
    WEIGHTED = "weighted"


class WhenFull(StrEnum):
    """What happens to a request once every route that may take it is at its limit, and waiting did not help."""

    NEXT_ROUTE = "next_route"
    REJECT = "reject"


class Store(StrEnum):
    """Which images of a project are stored: those that are asked for by link, all of them, or none for long."""

    LINKS = "links"
    ALWAYS = "always"
    NEVER = "never"


class SplitBy(StrEnum):
    """What keeps a caller in one arm of an experiment: the client's `safety_identifier`/`user`, or the API key."""

    USER = "user"
    KEY = "key"


@dataclass(frozen=True, slots=True)
class DegradeStep:
    """One rung of the ladder, added to those below it, from a share of any budget on (basis points of its limit).

    `fields` are `quality`, `size` or `n`, lowered and never raised; `routes` replace those of the job type.
    """

    budget_used: int
    fields: Mapping[str, str | int] = field(default_factory=dict)
    order: Order | None = None
    routes: tuple[Route, ...] = ()


@dataclass(frozen=True, slots=True)
class Throttled:
    """What a request does whose routes are full: wait up to `wait` seconds for a slot.

    `NEXT_ROUTE` takes any route that has room first and waits only if none has; `REJECT` waits for the first choice
    alone.
    """

    wait: float = 0.0
    then: WhenFull = WhenFull.NEXT_ROUTE


@dataclass(frozen=True, slots=True)
class Experiment:
    """Sends a share of the requests (basis points by route) to a route first; the rest is the arm `control`.

    The same caller always meets the same arm. A route may be of the testing lane if the project has that lane.
    """

    name: str
    split: Mapping[str, int]
    routes: tuple[Route, ...]
    by: SplitBy = SplitBy.USER


@dataclass(frozen=True, slots=True)
class Shadow:
    """Repeats a share of the requests (basis points) on another route, on a budget of its own, for comparison alone."""

    route: Route
    sample: int
    budget: Budget


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that finds a job type: every field named must have one of the values listed.

    Fields are those of `Job`: operation, model, quality, size, background, output_format, mask, stream, n, references.
    """

    fields: Mapping[str, tuple[str | int | bool, ...]]


@dataclass(frozen=True, slots=True)
class Retry:
    """How many upstream calls one request may cause, all routes and repeats together; what an unknown outcome means."""

    attempts: int = 2
    on_unknown: OnUnknown = OnUnknown.HOLD


@dataclass(frozen=True, slots=True)
class JobType:
    """What an image is for. `defaults` fill what was left out or `auto`; `allow` limits values by field.

    `max_cost_per_image` is nano-USD in the route view.
    """

    name: str
    routes: tuple[Route, ...]
    match: Match | None = None
    defaults: Mapping[str, str] = field(default_factory=dict)
    allow: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    max_cost_per_image: int | None = None
    retry: Retry = field(default_factory=Retry)
    order: Order = Order.LISTED
    weights: Mapping[str, int] = field(default_factory=dict)
    """By route, for `Order.WEIGHTED`; a route that is not named has 1."""
    degrade: tuple[DegradeStep, ...] = ()
    """In ascending order of `budget_used`."""
    throttled: Throttled = field(default_factory=Throttled)
    experiment: Experiment | None = None
    shadow: Shadow | None = None
    cache: float | None = None
    """Seconds for which the same request again is answered from the storage; None: it is made again."""
    batch: Collecting | None = None
    """How its tasks are collected for batches, if they are."""
    responses: ResponsesRules | None = None
    """What conversations may do; None: they are not served."""


DELIVERY_SECONDS = 3600.0
"""How long what delivering needs is kept of a project that stores nothing."""


@dataclass(frozen=True, slots=True)
class ImageRules:
    """What becomes of a project's images: `keep` is seconds, `quota` bytes (None: as many as there is room for).

    `convert` tells that an image which came in another format than was asked for is converted.
    """

    store: Store = Store.LINKS
    keep: float = 86_400.0
    quota: int | None = None
    convert: bool = False

    @property
    def kept_for(self) -> float:
        """Seconds for which an image that is stored stays."""
        return DELIVERY_SECONDS if self.store is Store.NEVER else self.keep


@dataclass(frozen=True, slots=True)
class Project:
    """A team. `multiplier` makes the internal price view from the route view.

    `offline_allowance` is what each instance may hold for it while the ledger is away, micro-USD in the route view.
    """

    name: str
    job_types: tuple[str, ...]
    default_job_type: str | None
    client_model: ClientModel = ClientModel.IGNORE
    lanes: frozenset[str] = frozenset({"production"})
    budgets: tuple[Budget, ...] = ()
    quotas: tuple[Quota, ...] = ()
    multiplier: Fraction = ONE
    offline_allowance: int | None = None
    legacy: bool = False
    """`compatibility: legacy`: names and fields of retired models are mapped to what exists."""
    asynchronous: bool = False
    """Whether every request becomes a task, asked for or not."""
    callback_secrets: tuple[Secret, ...] = ()
    """What its callbacks are signed with, each of them; none: with one that is derived."""
    images: ImageRules = field(default_factory=ImageRules)
    passthrough: tuple[PassRules, ...] = ()
    """Paths that go through to a provider as they are, those of the top level included."""


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it, at one moment. `digest` names the exact files it was read from (16 hex digits of SHA-256)."""

    models: Mapping[str, Model]
    providers: Mapping[str, ProviderConfig]
    routes: Mapping[str, Route]
    job_types: Mapping[str, JobType]
    projects: Mapping[str, Project]
    budgets: tuple[Budget, ...]
    digest: str
    text_models: Mapping[str, TextModel] = field(default_factory=dict)
    egress: Egress = field(default_factory=Egress)
    """What callers' URLs may lead to beyond public addresses."""
    marks: dict[tuple[str, str], str] = field(default_factory=dict, compare=False, repr=False)
    """What `domain.mark` has worked out, by project and job type."""
    memory: WeightedCache = field(default_factory=WeightedCache, init=False, repr=False, compare=False)
    """What was decided under it lately; another policy, also one made from this, begins with none."""
