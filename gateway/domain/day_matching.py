"""Day matching: the sums of each day and model, those of the ledger beside those of an invoice."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

from gateway.domain.adjusting import scaled
from gateway.domain.invoice import Row, parted
from gateway.domain.model_names import ModelNames, is_named, names_of
from gateway.domain.reconciling import Booked, Finding, Kind, Terms, classed
from gateway.domain.route import NOTHING, Views
from gateway.domain.spend import NO_REQUEST


def unsplit_day(booked: Iterable[Booked], terms: Terms, models: Sequence[str]) -> date | None:
    """Return a day of which nobody can tell what one of these models cost; see `Booked.is_unsplit`."""
    days = [
        each.day
        for each in booked
        if each.is_unsplit
        and terms.covers_booked(each)
        and any(is_named(name, model) for name in names_of(each) for model in models)
    ]
    return min(days, default=None)


def by_day(booked: Sequence[Booked], rows: Sequence[Row], terms: Terms, *, by_model: bool = False) -> list[Finding]:
    """Lay the sums of each day and model side by side. Rows that are alike in every cell are doubled.

    Models that are sent under one name are one sum; a day with a conversation that `is_unsplit` is one of all models.
    """
    inside = [replace(row, id="", request="") for row in rows if row.time is not None and terms.covers(row.time)]
    inside, findings = _once(inside, lambda row: row.cells)
    names = ModelNames(booked)
    by_model = by_model or any(row.model for row in inside)
    known = [each for each in booked if terms.covers_booked(each)]
    unsplit = {each.day for each in known if each.is_unsplit}
    ours: dict[tuple[date, str], Booked] = {}
    theirs: dict[tuple[date, str], list[Row]] = {}
    partial: set[tuple[date, str]] = set()
    for each in (part for whole in known for part in _by_model(whole)):
        model = names.standing(names.ours(each.model)) if by_model and each.day not in unsplit else ""
        group = (each.day, model)
        ours[group] = _added(ours.get(group), each, group[1])
        if terms.is_partial(each):
            partial.add(group)
    for row in inside:
        assert row.time is not None
        day = row.time.date()
        model = "" if day in unsplit else names.standing(names.ours(row.model))
        theirs.setdefault((day, model), []).append(row)
    for group in sorted(ours.keys() | theirs.keys()):
        mine, billed = ours.get(group), tuple(theirs.get(group, ()))
        kind = classed(mine, billed, terms, presumed=False)
        if kind is not None:
            kind = Kind.AT_EDGE if group in partial else kind
            findings.append(Finding(kind, mine, billed, *group, *_part_of_day(group[0], terms)))
    return findings


def _by_model(booked: Booked) -> list[Booked]:
    """What is booked, by model: the text model of a conversation costs the same in official and route view."""
    text = min(booked.text or 0, booked.cost.route)
    if not booked.text_model or text <= 0:
        return [booked]
    internal = scaled(booked.cost, text).internal
    cost, unknown = Views(text, text, internal), min(booked.unconfirmed, text)
    spoken = replace(booked, model=booked.text_model, cost=cost, images=0, unconfirmed=unknown)
    return [spoken, replace(booked, cost=booked.cost - cost, unconfirmed=booked.unconfirmed - unknown)]


def _part_of_day(day: date, terms: Terms) -> tuple[datetime | None, datetime | None]:
    """From when until when the period has the day; nothing if it has all of it."""
    begins = datetime.combine(day, time(), UTC)
    ends = begins + timedelta(days=1)
    since, until = max(begins, terms.since), min(ends, terms.until)
    return (None, None) if (since, until) == (begins, ends) else (since, until)


def _added(total: Booked | None, each: Booked, model: str) -> Booked:
    if total is None:
        total = Booked(NO_REQUEST, 0, each.time, NOTHING, model=model, changes=0)
    total.cost += each.cost
    total.images += each.images
    total.unconfirmed += each.unconfirmed
    total.changes += each.changes
    return total


def _once(rows: list[Row], key: Callable[[Row], Hashable]) -> tuple[list[Row], list[Finding]]:
    first, again = parted(rows, key)
    return first, [
        Finding(Kind.DOUBLED, None, (row,), row.time.date() if row.time else None, row.model) for row in again
    ]
