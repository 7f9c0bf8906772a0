"""Matching: which row of an invoice is about which attempt, or which day and model."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from datetime import date

from gateway.domain.invoice import Match, Row
from gateway.domain.reconciling import Booked, Finding, Kind, Terms, classed, nano
from gateway.domain.route import NOTHING
from gateway.domain.spend import NO_REQUEST

Rows = list[Row]


def reconcile(
    match: Match, booked: Sequence[Booked], rows: Sequence[Row], terms: Terms, models: Sequence[str] = ()
) -> list[Finding]:
    """Class everything that ledger or invoice have in the period, or what is about these models alone.

    `booked` should reach beyond the period on both sides: a row finds its request also where that was booked a moment
    outside.
    """
    if match is Match.DAY:
        found = by_day(booked, rows, terms, by_model=bool(models))
        return _about(models, found, booked) if models else found
    # What was posted for a row of another period is that row's, though this invoice names the same request again.
    own = [each for each in booked if each.request_id != NO_REQUEST or terms.covers_booked(each)]
    found = by_request(own, rows, terms)
    return _about(models, found, booked) if models else found


def _about(models: Sequence[str], findings: Iterable[Finding], booked: Sequence[Booked]) -> list[Finding]:
    """Return what is about these models: by what is booked, else by the invoice, which may use the name sent."""
    names = ModelNames(booked)
    pairs = {(each.model, each.upstream_model) for each in booked}
    ours = {pair[0] for pair in pairs if any(is_named(name, model) for name in pair for model in models)}

    def wanted(finding: Finding) -> bool:
        if finding.booked is not None:
            return finding.booked.model in ours
        return names.ours(finding.model) in ours or any(is_named(finding.model, model) for model in models)

    return [finding for finding in findings if wanted(finding)]


def is_known(model: str, booked: Iterable[Booked], rows: Iterable[Row]) -> bool:
    """Tell whether the ledger or the invoice has anything of a model."""
    names = {row.model for row in rows} | {name for each in booked for name in (each.model, each.upstream_model)}
    return any(is_named(name, model) for name in names)


def by_day(booked: Sequence[Booked], rows: Sequence[Row], terms: Terms, *, by_model: bool = False) -> list[Finding]:
    """Lay the sums of each day and model side by side. Rows that are alike in every cell are doubled."""
    inside = [replace(row, id="", request="") for row in rows if row.time is not None and terms.covers(row.time)]
    inside, findings = _once(inside, lambda row: row.cells)
    names = ModelNames(booked)
    by_model = by_model or any(row.model for row in inside)
    ours: dict[tuple[date, str], Booked] = {}
    for each in booked:
        if terms.covers_booked(each):
            group = (each.day, each.model if by_model else "")
            ours[group] = _added(ours.get(group), each, group[1])
    theirs: dict[tuple[date, str], Rows] = {}
    for row in inside:
        assert row.time is not None
        theirs.setdefault((row.time.date(), names.ours(row.model)), []).append(row)
    for group in sorted(ours.keys() | theirs.keys()):
        mine, billed = ours.get(group), tuple(theirs.get(group, ()))
        kind = classed(mine, billed, terms, presumed=False)
        if kind is not None:
            findings.append(Finding(kind, mine, billed, day=group[0], model=group[1]))
    return findings


def _added(total: Booked | None, each: Booked, model: str) -> Booked:
    if total is None:
        total = Booked(NO_REQUEST, 0, each.time, NOTHING, model=model, changes=0)
    total.cost += each.cost
    total.images += each.images
    total.unconfirmed += each.unconfirmed
    total.changes += each.changes
    return total


class ModelNames:
    """Finds the model that an invoice means: it may use the name sent to the provider, and add words of its own."""

    def __init__(self, booked: Iterable[Booked]) -> None:
        self._known: dict[str, str] = {}
        for each in booked:
            self._known.setdefault(each.upstream_model.casefold(), each.model)
        for each in booked:
            self._known[each.model.casefold()] = each.model
        self._known.pop("", None)
        self._found: dict[str, str] = {}

    def ours(self, text: str) -> str:
        """Return the ledger's name for a model, or the invoice's own where the ledger has none like it."""
        if text not in self._found:
            like = [name for name in self._known if is_named(text, name)]
            self._found[text] = self._known[max(like, key=len)] if like else text
        return self._found[text]


def is_named(text: str, model: str) -> bool:
    """Tell whether a line item is about this model: `name, input` and `name image` are, `name-2` is about another."""
    return re.match(rf"{re.escape(model)}(?![\w.-])", text, re.IGNORECASE) is not None


def by_request(booked: Sequence[Booked], rows: Sequence[Row], terms: Terms) -> list[Finding]:
    """Lay each attempt beside its rows: by the provider's id of it, else by the gateway's.

    Rows of one request are summed, since an invoice may itemise; rows that are alike in all that was read are doubled.
    """
    return _Requests(booked, terms).findings(rows)


class _Requests:
    def __init__(self, booked: Sequence[Booked], terms: Terms) -> None:
        self._booked = booked
        self._terms = terms
        self._by_upstream = {named: at for at, each in enumerate(booked) for named in each.upstream_ids}
        self._by_request: dict[str, list[int]] = {}
        for at, each in enumerate(booked):
            self._by_request.setdefault(own_id(each), []).append(at)
        self._by_request.pop(NO_REQUEST, None)
        self._claimed: dict[int, Rows] = {}
        self._unclaimed: list[Rows] = []
        self._doubled: Rows = []

    def findings(self, rows: Sequence[Row]) -> list[Finding]:
        named: dict[int, Rows] = {}
        asked: dict[str, Rows] = {}
        strange: dict[str, Rows] = {}
        for row in rows:
            at = self._by_upstream.get(row.id)
            request = row.request or row.id
            if at is not None:
                named.setdefault(at, []).append(row)
            elif request in self._by_request:
                asked.setdefault(request, []).append(row)
            else:
                strange.setdefault(row.id or row.request, []).append(row)
        for at, group in named.items():
            self._claimed[at] = self._without_doubles(group)
        for request, group in asked.items():
            self._assign(request, group)
        self._unclaimed += [self._without_doubles(group) for group in strange.values()]
        return [finding for finding in self._all() if finding is not None]

    def _assign(self, request: str, rows: Rows) -> None:
        """Give rows that name the request alone to those of its attempts that no row has named."""
        others: dict[str, Rows] = {}
        bare: Rows = []
        for row in rows:
            if row.id in ("", request):
                bare.append(row)
            else:
                others.setdefault(row.id, []).append(row)
        free = [at for at in self._by_request[request] if at not in self._claimed]
        for group in others.values():
            unnamed = [at for at in free if not self._booked[at].upstream_ids]
            self._give(self._without_doubles(group), unnamed, free)
        first, again = _parted(bare, _said)
        while again and len(first) < len(free):  # each attempt may have been billed the same
            first.append(again.pop(0))
        self._doubled += again
        self._share(first, free)

    def _share(self, rows: Rows, free: list[int]) -> None:
        if len(free) > 1:
            equal = [row for row in rows if any(self._costs(at, [row]) for at in free)]
            for row in (*equal, *(row for row in rows if row not in equal)):
                if len(free) > 1:
                    self._give([row], free, free)
                    rows = [each for each in rows if each is not row]
        if rows:
            self._give(rows, free, free)

    def _give(self, rows: Rows, candidates: list[int], free: list[int]) -> None:
        if not candidates:
            self._unclaimed.append(rows)
            return
        at = next((at for at in candidates if self._costs(at, rows)), candidates[0])
        self._claimed[at] = rows
        free.remove(at)

    def _costs(self, at: int, rows: Rows) -> bool:
        return self._booked[at].cost.route == nano(row.amount for row in rows)

    def _without_doubles(self, rows: Rows) -> Rows:
        first, again = _parted(rows, _said)
        self._doubled += again
        return first

    def _all(self) -> Iterable[Finding | None]:
        for at, each in enumerate(self._booked):
            yield self._judged(each, tuple(self._claimed.get(at, ())))
        for rows in self._unclaimed:
            yield self._judged(None, tuple(rows))
        for row in self._doubled:
            if self._covers(row):
                yield Finding(Kind.DOUBLED, None, (row,), row.time.date() if row.time else None, row.model)

    def _judged(self, booked: Booked | None, rows: tuple[Row, ...]) -> Finding | None:
        if not (self._covers(rows[0]) if rows else booked is not None and self._terms.covers_booked(booked)):
            return None
        kind = classed(booked, rows, self._terms, presumed=True)
        if kind is None:
            return None
        if booked is not None and not rows and self._terms.is_edge(booked):
            kind = Kind.AT_EDGE
        moment = rows[0].time if rows else None
        day = moment.date() if moment else booked.day if booked else self._terms.since.date()
        return Finding(kind, booked, rows, day, booked.model if booked else rows[0].model)

    def _covers(self, row: Row) -> bool:
        return row.time is None or self._terms.covers(row.time)


def own_id(booked: Booked) -> str:
    """Return the gateway's id of the request, also of one that only an invoice told of."""
    return str(booked.about.get("request") or NO_REQUEST) if booked.request_id == NO_REQUEST else booked.request_id


def _said(row: Row) -> Hashable:
    return row.id, row.request, row.amount, row.time, row.model, row.images


def _parted(rows: Rows, key: Callable[[Row], Hashable]) -> tuple[Rows, Rows]:
    """Split rows into the first of each and those that say the same again."""
    seen: set[Hashable] = set()
    first: Rows = []
    again: Rows = []
    for row in rows:
        (again if key(row) in seen else first).append(row)
        seen.add(key(row))
    return first, again


def _once(rows: Rows, key: Callable[[Row], Hashable]) -> tuple[Rows, list[Finding]]:
    first, again = _parted(rows, key)
    return first, [
        Finding(Kind.DOUBLED, None, (row,), row.time.date() if row.time else None, row.model) for row in again
    ]
