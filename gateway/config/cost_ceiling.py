"""Rejects prices and multipliers at which the largest request would exceed what a hold can represent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.config.documents import Items, Table
from gateway.config.fields import is_null
from gateway.config.problems import Place, Report
from gateway.config.sources import Entry
from gateway.domain import money, pricing
from gateway.domain.job import Job, Operation
from gateway.domain.policy import JobType, Policy, Project
from gateway.domain.price import Price
from gateway.domain.responses import TextTerms
from gateway.domain.route import Model, Route
from gateway.steps.classify import MAX_N, MAX_PARTIAL_IMAGES, MAX_PROMPT_CHARS

_LONGEST_CHAR = 4
"""Bytes of a character in UTF-8, at most."""
_LIMIT = f"${money.MAX_REQUEST // money.NANO_PER_USD}"


def check_cost_ceiling(entries: Mapping[str, Mapping[str, Entry]], policy: Policy, report: Report) -> None:
    """Report prices by which the largest request costs more than can be held, and multipliers that bring it there.

    `entries` are those of the policy's own files.
    """
    before = len(report.problems)
    for name, entry in entries["models"].items():
        _check_rows(policy.models[name], policy.models[name].prices, entry, report)
    for name, route in policy.routes.items():
        _check_rows(route.model, route.prices, _priced(entries["routes"][name], entries["offers"]), report)
    for name, job_type in policy.job_types.items():
        _check_talk(job_type, entries["job_types"][name].place, report)
    if len(report.problems) > before:
        return  # what a multiplier makes of a wrong price says nothing of the multiplier
    for name, project in policy.projects.items():
        most = max(_amounts(project, policy), default=0)
        if money.times(most, project.multiplier) > money.MAX_REQUEST:
            place = _below(entries["projects"][name], "chargeback")
            report.problem(place, f"its multiplier makes {_told(money.times(most, project.multiplier))}; lower it")


def _check_rows(model: Model, prices: Sequence[Price], entry: Entry, report: Report) -> None:
    for price in prices:
        if (most := _of_images(model, price)) > money.MAX_REQUEST:
            report.problem(_row(entry, price), f"makes {_told(most)}; prices are in USD, tokens in USD per million")


def _check_talk(job_type: JobType, place: Place, report: Report) -> None:
    most = _of_text(job_type)
    if most > money.MAX_REQUEST:
        report.problem(place, f"the text model of its responses makes {_told(most)}; lower its price or its context")


def _told(nano: int) -> str:
    usd = -(-nano // money.NANO_PER_USD)
    return f"the largest request cost up to ${usd}, and none can be held at more than {_LIMIT}"


def _amounts(project: Project, policy: Policy) -> Iterator[int]:
    """What the largest requests of a project may cost, nano-USD before its multiplier."""
    for name in project.job_types:
        job_type = policy.job_types[name]
        text = _of_text(job_type)
        for route in _routes(job_type):
            for price in (*route.model.prices, *route.prices):
                yield _of_images(route.model, price) + text
    for rules in project.passthrough:
        yield rules.price or 0


def _routes(job_type: JobType) -> Iterator[Route]:
    listed = [*job_type.routes, *(route for step in job_type.degrade for route in step.routes)]
    if job_type.experiment:
        listed += job_type.experiment.routes
    if job_type.shadow:
        listed.append(job_type.shadow.route)
    for route in listed:
        yield route
        if route.successor is not None:
            yield route.successor


def _of_images(model: Model, price: Price) -> int:
    """Nano-USD of the largest request for images by a price row, each image by a call of its own."""
    can = model.capabilities
    job = Job(
        Operation.EDIT,
        None,
        MAX_PROMPT_CHARS,
        MAX_PROMPT_CHARS * _LONGEST_CHAR,
        MAX_N,
        mask=True,
        references=can.references,
        partial_images=MAX_PARTIAL_IMAGES,
    )
    tariff = pricing.tariff(job, model, price, sizes=(), qualities=can.quality)
    return tariff.nano(pricing.most_text(job.prompt_bytes), MAX_N, 1)


def _of_text(job_type: JobType) -> int:
    """Nano-USD of the text of the longest conversation; 0 where the job type has none."""
    rules = job_type.responses
    if rules is None:
        return 0
    terms = (
        TextTerms(model.name, price, model.context * (rules.max_images + 1), rules.max_output_tokens)
        for model in rules.models
        for price in model.prices
    )
    return max((each.worst for each in terms), default=0)


def _priced(route: Entry, offers: Mapping[str, Entry]) -> Entry:
    """The entry that has a route's price rows: the route's own, or that of the offer it takes."""
    nodes = route.node.nodes if isinstance(route.node, Table) else {}
    if (rows := nodes.get("price")) is not None and not is_null(rows):
        return route
    return offers.get(getattr(nodes.get("offer"), "text", ""), route)


def _below(entry: Entry, key: str) -> Place:
    return entry.node.keys.get(key, entry.place) if isinstance(entry.node, Table) else entry.place


def _row(entry: Entry, price: Price) -> Place:
    """The place of a price row, by its day; that of the whole entry where its rows stand elsewhere."""
    rows = entry.node.nodes.get("price") if isinstance(entry.node, Table) else None
    for row in rows.nodes if isinstance(rows, Items) else ():
        if isinstance(row, Table) and getattr(row.nodes.get("from"), "text", "") == str(price.valid_from):
            return row.place
    return _below(entry, "price")
