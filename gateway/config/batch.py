"""Batches: how an account takes them, and how a job type's tasks are collected for them."""

from __future__ import annotations

from gateway.config.documents import Node
from gateway.config.durations import collecting, duration, keeping, pause
from gateway.config.fields import Fields
from gateway.config.problems import Report
from gateway.config.schema import BATCH_ENDPOINTS, BATCH_KIND, JOB_TYPE_BATCH, PROVIDER_BATCH
from gateway.config.values import multiplier, one_of, text, whole
from gateway.domain.batch import HOUR, BatchTerms, Collecting, IfLate
from gateway.domain.job import Operation
from gateway.domain.route import Route

MOST_REQUESTS = 50_000
MOST_BYTES = 200_000_000
"""What the vendor's Batch API takes in one file."""
LONGEST_WAIT = 24 * HOUR


def read_provider_batch(owner: Fields, kind: str, report: Report) -> BatchTerms | None:
    """Read the map under a provider's `batch`; None where it is left out."""
    fields, usual = owner.within("batch", PROVIDER_BATCH), BatchTerms()
    if fields is None:
        return None
    if kind and kind != BATCH_KIND:
        report.problem(owner.at("batch"), f"kind {kind} has no batches; only kind {BATCH_KIND} has")
    window = fields.read("window", keeping) or usual.window
    if window % HOUR:
        report.problem(fields.at("window"), "must be whole hours")
    factor = fields.read("multiplier", multiplier)
    if factor is not None and not 0 < factor <= 1:
        report.problem(fields.at("multiplier"), "must be above 0 and at most 1")
    endpoints = usual.endpoints
    if (named := fields.within("endpoints", BATCH_ENDPOINTS)) is not None:
        found = {each: path for each in (Operation.GENERATE, Operation.EDIT) if (path := named.read(each, _path))}
        endpoints = found
        if not found:
            report.problem(fields.at("endpoints"), "names no endpoint; remove it for the usual ones")
    return BatchTerms(
        window=window,
        multiplier=factor or usual.multiplier,
        endpoints=endpoints,
        poll=fields.read("poll", pause) or usual.poll,
        spare=fields.read("spare", duration) or usual.spare,
        most_requests=fields.read("most_requests", whole(1, MOST_REQUESTS)) or usual.most_requests,
        most_bytes=fields.read("most_bytes", whole(10_000, MOST_BYTES)) or usual.most_bytes,
    )


def _path(node: Node, report: Report) -> str | None:
    path = text(node, report)
    if path is not None and not path.startswith("/"):
        report.problem(node.place, "must be a path that begins with /, such as /v1/images/generations")
        return None
    return path


def read_collecting(owner: Fields, routes: tuple[Route, ...], report: Report) -> Collecting | None:
    """Read the map under a job type's `batch`; None where it is left out."""
    fields, usual = owner.within("batch", JOB_TYPE_BATCH), Collecting()
    if fields is None:
        return None
    late = fields.read("if_late", one_of(IfLate))
    rules = Collecting(
        after=fields.read("after", collecting) or usual.after,
        requests=fields.read("requests", whole(1, MOST_REQUESTS)) or usual.requests,
        if_late=IfLate(late) if late else usual.if_late,
        min_wait=fields.read("min_wait", collecting) or usual.min_wait,
    )
    if routes and not any(route.provider.batch for route in routes):
        report.problem(owner.at("batch"), "none of the job type's routes is of a provider with batch")
    if rules.after >= rules.min_wait:
        report.problem(
            fields.at("after"), "is not shorter than min_wait: nothing would be left of the wait for a batch"
        )
    if rules.min_wait > LONGEST_WAIT:
        report.problem(fields.at("min_wait"), "is longer than any task may wait (24h), so nothing would be collected")
    return rules
