"""From a directory of YAML files to a policy, or to every reason why not. The same for serving and for checking."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, TypeVar

from gateway.config.cost_ceiling import check_cost_ceiling
from gateway.config.egress import read_egress
from gateway.config.job_types import read_job_type
from gateway.config.limits import LimitReader
from gateway.config.lookup import Known
from gateway.config.models import ModelEntry, check_model, check_words, read_model
from gateway.config.offers import read_offer
from gateway.config.problems import Place, Problem, Report
from gateway.config.profiles import read_preset
from gateway.config.projects import read_project
from gateway.config.providers import read_provider
from gateway.config.responses import Talkers, read_passthrough
from gateway.config.routes import of_models, read_route
from gateway.config.secrets import SecretSources
from gateway.config.shipped import shipped_policies
from gateway.config.sources import Entry, Sources, read_sources
from gateway.config.text_models import read_text_model
from gateway.config.tiers import read_tier
from gateway.config.unreachable import check_matches, warn_of_dead, warn_of_lanes, warn_unreached
from gateway.domain.budget import Budget
from gateway.domain.naming import serving
from gateway.domain.passing import PassRules
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.route import Route

T = TypeVar("T")
Secrets = Literal["required", "optional"]

_DIGEST_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Loaded:
    """What came of reading a policy. `policy` is None exactly when there are problems; both lists are sorted."""

    policy: Policy | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def load_policy(
    directory: Path,
    *,
    environ: Mapping[str, str],
    secrets: Secrets = "required",
    today: date | None = None,
) -> Loaded:
    """Read every policy file under a directory on top of the shipped catalog. Never raises for what is in the files.

    `environ` is where `${NAME}` is looked up; a missing one is a problem, or a warning when secrets are optional.
    `today` (default: now, UTC) decides which models are retired and which prices are in force.
    """
    report = Report()
    digest = hashlib.sha256()
    catalog = read_sources(shipped_policies() / "catalog", "catalog", digest, report)
    sources = read_sources(directory, "policy", digest, report)
    secret_sources = SecretSources(environ, required=secrets == "required")
    reader = _Reader(sources, catalog, secret_sources, today or datetime.now(UTC).date(), report)
    policy = reader.policy(digest.hexdigest()[:_DIGEST_DIGITS])
    if sources.has_all_of("projects") and not sources.named["projects"]:
        report.warn(Place(str(directory), 1, ""), "defines no project, so nobody can use it")
    return Loaded(
        policy=None if report.problems else policy,
        problems=tuple(sorted(set(report.problems))),
        warnings=tuple(sorted(set(report.warnings))),
    )


def check_policy(directory: Path, environ: Mapping[str, str], today: date) -> Loaded:
    """Validate a policy as `serve` would, on a machine that need not have its secrets."""
    return load_policy(directory, environ=environ, secrets="optional", today=today)


@dataclass(slots=True)
class _Reader:
    sources: Sources
    catalog: Sources
    secret_sources: SecretSources
    today: date
    report: Report

    def policy(self, digest: str) -> Policy:
        report = self.report
        models = self._with_shipped("models", lambda name, entry: read_model(name, entry, report))
        tiers = self._with_shipped("tiers", lambda name, entry: read_tier(name, entry, report))
        presets = self._with_shipped("presets", lambda name, entry: read_preset(name, entry, report))
        providers = self._each(
            "providers",
            lambda name, entry: read_provider(
                name, entry, self.secret_sources, tiers=tiers, presets=presets, report=report
            ),
        )
        offers = self._with_shipped("offers", lambda _, entry: read_offer(entry, models, self.today))
        for name in self.sources.named["offers"]:
            _present(offers)[name].tell(report)
        routes = self._each(
            "routes",
            lambda name, entry: read_route(
                name, entry, providers, models, tiers, offers=offers, today=self.today, report=report
            ),
        )
        routes = _known_by_model(routes, models)
        self._check_models(models, routes)
        texts = self._with_shipped("text_models", lambda name, entry: read_text_model(name, entry, self.today, report))
        talkers = Talkers(providers, texts)
        job_types = self._each(
            "job_types",
            lambda name, entry: read_job_type(name, entry, routes, models, talkers, today=self.today, report=report),
        )
        limits = LimitReader(job_types, routes, report)
        projects = self._each(
            "projects",
            lambda name, entry: read_project(name, entry, limits, self.secret_sources, report, providers=providers),
        )
        passed = read_passthrough(self.sources.maps["passthrough"], providers, report)
        self._check_reach(_present(job_types), _present(projects))
        policy = Policy(
            models={name: entry.model for name, entry in _present(models).items()},
            providers=_present(providers),
            routes=_present(routes),
            job_types=_present(job_types),
            projects=self._with_common_quotas(limits, _with_passthrough(_present(projects), passed)),
            text_models=_present(texts),
            budgets=self._common_budgets(limits),
            egress=read_egress(self.sources.maps["egress"], report),
            digest=digest,
        )
        if not report.problems:
            check_cost_ceiling(self.sources.named, policy, report)
        return policy

    def _with_shipped(self, section: str, read: Callable[[str, Entry], T | None]) -> Known[T]:
        entries = self.catalog.named[section] | self.sources.named[section]
        return self._known(section, entries, read, complete=self.sources.has_all_of(section) and self.catalog.complete)

    def _each(self, section: str, read: Callable[[str, Entry], T | None]) -> Known[T]:
        return self._known(section, self.sources.named[section], read, complete=self.sources.has_all_of(section))

    def _known(
        self, section: str, entries: Mapping[str, Entry], read: Callable[[str, Entry], T | None], *, complete: bool
    ) -> Known[T]:
        kind = section.removesuffix("s").replace("_", " ")
        return Known(kind, {name: read(name, entry) for name, entry in entries.items()}, complete)

    def _check_models(self, models: Known[ModelEntry], routes: Known[Route]) -> None:
        """Check the policy's own models, and those of the catalog that a route uses: others cannot do harm."""
        entries = _present(models)
        own = self.sources.named["models"].keys()
        served = [serving(route, self.today) or route for route in _present(routes).values()]
        relevant = {route.model.name for route in served} | own
        for name in sorted(relevant & entries.keys()):
            check_model(entries[name], entries, self.today, self.report)
        for name in sorted(own & entries.keys()):
            check_words(entries[name], entries, self.report)

    def _common_budgets(self, limits: LimitReader) -> tuple[Budget, ...]:
        budgets = (limits.budget(node, None) for node in self.sources.listed["budgets"])
        return tuple(budget for budget in budgets if budget)

    def _with_common_quotas(self, limits: LimitReader, projects: dict[str, Project]) -> dict[str, Project]:
        """Give every project the top-level quotas too; their scope names no project, so all count on one meter."""
        quotas = (limits.quota(node, None) for node in self.sources.listed["quotas"])
        common = tuple(quota for quota in quotas if quota)
        return {
            name: dataclasses.replace(project, quotas=(*project.quotas, *common)) for name, project in projects.items()
        }

    def _check_reach(self, job_types: Mapping[str, JobType], projects: Mapping[str, Project]) -> None:
        entries, report = self.sources.named, self.report
        check_matches(entries, job_types, projects, report)
        if not report.problems:
            warn_unreached(entries, job_types, projects, report)
            warn_of_lanes(entries, job_types, projects, report)
            warn_of_dead(entries, job_types, self.today, report)


def _with_passthrough(projects: dict[str, Project], common: tuple[PassRules, ...]) -> dict[str, Project]:
    """Give every project the top-level paths after its own."""
    return {
        name: dataclasses.replace(project, passthrough=(*project.passthrough, *common))
        for name, project in projects.items()
    }


def _known_by_model(routes: Known[Route], models: Known[ModelEntry]) -> Known[Route]:
    meant = of_models((entry.model for entry in _present(models).values()), _present(routes).values())
    return dataclasses.replace(routes, of_models=meant)


def _present(known: Known[T]) -> dict[str, T]:
    return {name: thing for name, thing in known.things.items() if thing is not None}
