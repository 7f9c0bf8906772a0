"""A policy test as it is read: a request on paper, the state of budgets, and what is expected to come of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date

from gateway.config.problems import Place, Problem
from gateway.config.schema import Keys
from gateway.domain.budget import View, Window
from gateway.routing.dry_run import Sketch

FILE = Keys(("tests",))
REQUEST = Keys(
    (
        "operation",
        "headers",
        "model",
        "prompt",
        "n",
        "size",
        "resolution",
        "quality",
        "background",
        "output_format",
        "input_fidelity",
        "stream",
        "partial_images",
        "user",
        "safety_identifier",
        "response_format",
        "style",
        "images",
        "mask",
    )
)
TEST = Keys(
    ("name", "project", "key", "key_job_type", "request", "budget_used", "full", "date", "expect"),
    dict.fromkeys(REQUEST.known, "belongs in request"),
)
HEADERS = (
    "X-Gateway-Job-Type",
    "X-Gateway-Lane",
    "X-Gateway-Max-Cost",
    "X-Gateway-Degrade",
    "X-Gateway-Tags",
)
BUDGET_USED = Keys(("window", "used", "common", "job_type", "key", "route", "view"))
EXPECT = Keys(
    ("job_type", "route", "model", "quality", "size", "n", "degraded", "replaced", "cost", "error", "refused")
)
ERRORS = {
    "invalid_value": 400,
    "invalid_type": 400,
    "missing_required_parameter": 400,
    "string_above_max_length": 400,
    "unsupported_parameter": 400,
    "unsupported_by_every_route": 400,
    "project_spend_limit_exceeded": 402,
    "max_cost_exceeded": 402,
    "job_type_not_allowed": 403,
    "lane_not_allowed": 403,
    "model_not_allowed": 403,
    "project_not_found": 403,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
}
"""The codes that a request on paper may end in, with their status."""
EVERY_MAP = {
    "tests[]": TEST,
    "tests[].request": REQUEST,
    "tests[].budget_used[]": BUDGET_USED,
    "tests[].expect": EXPECT,
}
"""Every map by the name under which the reference documents it."""


@dataclass(frozen=True, slots=True)
class Used:
    """How far budgets are used: a share in basis points, or micro-USD. None of a property is any of it."""

    window: Window
    share: int | None
    amount: int | None
    common: bool | None = None
    job_type: str | None = None
    key: str | None = None
    route: str | None = None
    view: View | None = None


@dataclass(frozen=True, slots=True)
class Expected:
    """What is to come of it; None of a property is not looked at. `cost` is the worst case, nano-USD, route view."""

    job_type: str | None = None
    route: tuple[str, ...] | None = None
    model: str | None = None
    quality: str | None = None
    size: str | None = None
    n: int | None = None
    degraded: dict[str, str] | None = None
    replaced: str | None = None
    cost: int | None = None
    error: str | None = None
    refused: dict[str, str] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """One test. `full` are routes whose own limits leave no room."""

    place: Place
    sketch: Sketch
    expected: Expected
    used: tuple[Used, ...] = ()
    full: tuple[str, ...] = ()
    date: date | None = None


@dataclass(frozen=True, slots=True)
class Cases:
    """What was read; `problems` are sorted and say what is wrong with tests themselves, `mistaken` with how many."""

    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]
    mistaken: int = 0
