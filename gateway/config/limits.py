"""Budgets and quotas, of a project or of the whole gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.config.documents import Node
from gateway.config.fields import Fields
from gateway.config.lookup import Known
from gateway.config.problems import Place, Report
from gateway.config.schema import BUDGET, QUOTA
from gateway.config.values import key_id, micro_usd, one_of, whole
from gateway.domain.budget import Budget, Counted, Quota, Scope, View, Window
from gateway.domain.policy import JobType
from gateway.domain.route import Route

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_MOST = 10**9


@dataclass(slots=True)
class LimitReader:
    """Reads budgets and quotas of all owners and sees to it that no two of them count on the same meter."""

    job_types: Known[JobType]
    routes: Known[Route]
    report: Report
    _meters: dict[str, Place] = field(default_factory=dict)

    def budget(self, node: Node, project: str | None, members: tuple[str, ...] = ()) -> Budget | None:
        """Read one budget; `project` is the one it belongs to, `members` are that project's job types."""
        fields = Fields(node, BUDGET, self.report)
        window = fields.required("window", one_of(Window))
        limit = fields.required("limit", micro_usd)
        view = fields.read("view", one_of(View)) or View.ROUTE
        scope = self._scope(fields, project, members)
        if limit == 0:
            self.report.warn(fields.at("limit"), "a budget of 0 refuses everything it covers")
        if window is None or limit is None or scope is None:
            return None
        budget = Budget(scope, Window(window), limit, View(view))
        self._once(budget.meter, fields, f"a budget for {scope.label()} per {window} in view {view}")
        return budget

    def quota(self, node: Node, project: str | None, members: tuple[str, ...] = ()) -> Quota | None:
        """Read one quota: images or requests with `per`, or requests in flight."""
        fields = Fields(node, QUOTA, self.report)
        counts = {counted: fields.read(counted, whole(1, _MOST)) for counted in Counted if fields.node(counted)}
        scope = self._scope(fields, project, members)
        if len(counts) != 1:
            if counts or fields.lacks(*Counted):
                self.report.problem(fields.place, "give exactly one of images, requests and concurrent")
            return None
        counted, limit = next(iter(counts.items()))
        per = fields.read("per", one_of(_SECONDS))
        if counted is Counted.CONCURRENT and fields.node("per") is not None:
            self.report.problem(fields.at("per"), "concurrent counts requests in flight and has no window; remove it")
        elif counted is not Counted.CONCURRENT and fields.lacks("per"):
            self.report.problem(fields.place, f"per is missing: one of {', '.join(_SECONDS)}")
        if limit is None or scope is None or (per is None and counted is not Counted.CONCURRENT):
            return None
        quota = Quota(scope, counted, limit, _SECONDS.get(per or "", 0))
        self._once(quota.meter, fields, f"a quota of {counted} for {scope.label()}" + (f" per {per}" if per else ""))
        return quota

    def _scope(self, fields: Fields, project: str | None, members: tuple[str, ...]) -> Scope | None:
        """Read what a limit covers; None where a part of it cannot be read, for without it it would cover more."""
        before = len(self.report.problems)
        job_type = fields.read("job_type", self.job_types.checked)
        if job_type is not None and members and job_type not in members:
            self.report.warn(fields.at("job_type"), f"{job_type} is not among the project's job types")
        key, route = fields.read("key", key_id), fields.read("route", self.routes.checked)
        if len(self.report.problems) > before:
            return None
        return Scope(project=project, key=key, job_type=job_type, route=route)

    def _once(self, meter: str, fields: Fields, what: str) -> None:
        first = self._meters.setdefault(meter, fields.place)
        if first is not fields.place:
            self.report.problem(fields.place, f"{what} was already given at {first.file}:{first.line}")
