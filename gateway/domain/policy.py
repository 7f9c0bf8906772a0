"""What policy files become: routes, job types, projects and budgets, resolved and ready to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction

from gateway.domain.budget import Budget, Quota
from gateway.domain.route import Model, ProviderConfig, Route


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
    multiplier: Fraction = Fraction(1)
    offline_allowance: int | None = None


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
