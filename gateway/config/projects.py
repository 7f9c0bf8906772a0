"""Projects: teams, with what they may use and spend."""

from __future__ import annotations

from fractions import Fraction

from gateway.config.callbacks import read_callbacks
from gateway.config.documents import Node
from gateway.config.fields import Fields
from gateway.config.images import read_images
from gateway.config.limits import LimitReader
from gateway.config.lookup import Known
from gateway.config.problems import Place, Report, did_you_mean
from gateway.config.responses import read_passthrough
from gateway.config.schema import CHARGEBACK, PROJECT, WHILE_LEDGER_AWAY
from gateway.config.secrets import SecretSources
from gateway.config.sources import Entry
from gateway.config.values import LANES, PRODUCTION, listed, micro_usd, multiplier, name, one_of
from gateway.domain.money import ONE
from gateway.domain.policy import ClientModel, Project
from gateway.domain.route import ProviderConfig


def read_project(
    project: str,
    entry: Entry,
    limits: LimitReader,
    secret_sources: SecretSources,
    report: Report,
    *,
    providers: Known[ProviderConfig],
) -> Project:
    """Read one entry of the `projects` section."""
    fields = Fields(entry.node, PROJECT, report, entry.place)
    job_types = fields.required("job_types", listed(limits.job_types.checked)) or ()
    lanes = frozenset(fields.read("lanes", listed(one_of(LANES))) or (PRODUCTION,))
    _check_lanes(fields, job_types, lanes, limits, report)
    default = fields.read("default_job_type", name)
    if default is not None and job_types and default not in job_types:
        hint = did_you_mean(default, job_types)
        report.problem(fields.at("default_job_type"), f"{default} is not among the project's job_types{hint}")
    budgets = [limits.budget(node, project, job_types) for node in fields.items("budgets")]
    quotas = [limits.quota(node, project, job_types) for node in fields.items("quotas")]
    return Project(
        name=project,
        job_types=job_types,
        default_job_type=default,
        legacy=fields.read("compatibility", one_of(("legacy",))) is not None,
        asynchronous=fields.read("asynchronous", one_of(("always",))) is not None,
        client_model=ClientModel(fields.read("client_model", one_of(ClientModel)) or ClientModel.IGNORE),
        lanes=lanes,
        budgets=tuple(filter(None, budgets)),
        quotas=tuple(filter(None, quotas)),
        multiplier=_multiplier(fields, report),
        offline_allowance=_offline_allowance(fields, report),
        callback_secrets=read_callbacks(fields, secret_sources, report),
        images=read_images(fields),
        passthrough=read_passthrough(_given(fields, "passthrough"), providers, report),
    )


def _multiplier(owner: Fields, report: Report) -> Fraction:
    fields = owner.within("chargeback", CHARGEBACK)
    if fields is None:
        return ONE
    factor = fields.required("multiplier", multiplier)
    if factor == 0:
        report.problem(fields.at("multiplier"), "0 would make the project's own prices nothing")
    return factor or ONE


def _offline_allowance(owner: Fields, report: Report) -> int | None:
    fields = owner.within("while_ledger_away", WHILE_LEDGER_AWAY)
    if fields is None:
        return None
    allowance = fields.required("allowance", micro_usd)
    if allowance == 0:
        report.warn(fields.at("allowance"), "an allowance of 0 admits nothing, as without it")
    return allowance


def _check_lanes(
    fields: Fields,
    job_types: tuple[str, ...],
    lanes: frozenset[str],
    limits: LimitReader,
    report: Report,
) -> None:
    places = {_word(node): node.place for node in fields.items("job_types")} if job_types else {}
    for each in job_types:
        known = limits.job_types.things.get(each)
        if known and known.routes and not any(route.lane in lanes for route in known.routes):
            place: Place = places.get(each, fields.place)
            report.problem(place, f"no route of {each} is in the project's lanes ({', '.join(sorted(lanes))})")


def _given(fields: Fields, key: str) -> tuple[Node, ...]:
    node = fields.node(key)
    return () if node is None else (node,)


def _word(node: Node) -> str:
    return getattr(node, "text", "")
