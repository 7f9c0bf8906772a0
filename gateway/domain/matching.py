"""Matching: which row of an invoice is about which attempt, or which day and model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from gateway.domain.day_matching import by_day
from gateway.domain.invoice import Match, Row, parted
from gateway.domain.model_names import ModelNames, is_named
from gateway.domain.reconciling import Booked, Finding, Kind, Terms, classed, nano
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
        return _about(models, found, booked, by_day=True) if models else found
    # What was posted for a row of another period is that row's, though this invoice names the same request again.
    own = [each for each in booked if each.request_id != NO_REQUEST or terms.covers_booked(each)]
    found = by_request(own, rows, terms)
    return _about(models, found, booked, by_day=False) if models else found


def _about(
    models: Sequence[str], findings: Iterable[Finding], booked: Sequence[Booked], *, by_day: bool
) -> list[Finding]:
    """Return what is about these models: by what is booked, else by the invoice, which may use the name sent.

    A day's sum is about each model that is part of it.
    """
    names = ModelNames(booked)
    pairs = {(each.model, each.upstream_model) for each in booked} | {(each.text_model, "") for each in booked}
    ours = {pair[0] for pair in pairs if any(is_named(name, model) for name in pair for model in models)}
    ours |= {names.standing(each) for each in ours} if by_day else set()

    def wanted(finding: Finding) -> bool:
        about = finding.booked or finding.stands_for or finding.of
        if about is not None:
            return about.model in ours
        return names.ours(finding.model) in ours or any(is_named(finding.model, model) for model in models)

    return [finding for finding in findings if wanted(finding)]


def by_request(booked: Sequence[Booked], rows: Sequence[Row], terms: Terms) -> list[Finding]:
    """Lay each attempt beside its rows: by the provider's id of it, else by the gateway's.

    Rows of one request are summed, since an invoice may itemise; rows that are alike in all that was read are doubled.
    """
    return _Requests(booked, terms).findings(rows)


class _Requests:
    def __init__(self, booked: Sequence[Booked], terms: Terms) -> None:
        self._booked = booked
        self._terms = terms
        self._names = ModelNames(booked)
        self._posted = [at for at, each in enumerate(booked) if each.request_id == NO_REQUEST]
        attempts = [at for at, each in enumerate(booked) if each.request_id != NO_REQUEST]
        places = [*self._posted, *attempts]  # an attempt comes before what only an invoice told of the same call
        self._by_upstream = {named: at for at in places for named in booked[at].upstream_ids}
        self._by_moment: dict[tuple[str, datetime | None], int] = {
            (named, booked[at].time): at for at in self._posted for named in booked[at].upstream_ids
        }
        self._by_request: dict[str, list[int]] = {}
        for at in (*attempts, *self._posted):
            self._by_request.setdefault(own_id(booked[at]), []).append(at)
        self._by_request.pop(NO_REQUEST, None)
        self._called = {booked[at].request_id for at in attempts}
        self._claimed: dict[int, Rows] = {}
        self._more: list[tuple[Booked, Rows]] = []
        self._unclaimed: list[Rows] = []
        self._doubled: Rows = []

    def findings(self, rows: Sequence[Row]) -> list[Finding]:
        named: dict[int, Rows] = {}
        asked: dict[str, Rows] = {}
        strange: dict[str, Rows] = {}
        for row in rows:
            at, request = self._named(row), row.request or row.id
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
        for at in [at for at in self._claimed if self._is_more(at)]:
            self._part(at)
        return [finding for finding in self._all() if finding is not None]

    def _named(self, row: Row) -> int | None:
        """Return the attempt that the provider's id names, or what was posted for it, best that of the row's time.

        None where the row names a call of ours: what was posted for the provider's id stands beside that.
        """
        at = self._by_upstream.get(row.id)
        if at is None or self._booked[at].request_id != NO_REQUEST:
            return at
        return None if (row.request or row.id) in self._called else self._by_moment.get((row.id, row.time), at)

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
        for named, group in others.items():
            ids = {at: self._booked[at].upstream_ids for at in free}
            self._give(self._without_doubles(group), [at for at in free if not ids[at] or named in ids[at]], free)
        first, again = parted(bare, _said)
        while again and len(first) < len(free):  # each attempt may have been billed the same
            first.append(again.pop(0))
        self._doubled += again
        self._share(first, free or [at for at in self._posted if self._is_free(at, request)])

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

    def _is_free(self, at: int, named: str) -> bool:
        return at not in self._claimed and named in self._booked[at].upstream_ids

    def _costs(self, at: int, rows: Rows) -> bool:
        return self._booked[at].cost.route == nano(row.amount for row in rows)

    def _without_doubles(self, rows: Rows) -> Rows:
        first, again = parted(rows, _said)
        self._doubled += again
        return first

    def _is_more(self, at: int) -> bool:
        """Tell whether rows of an attempt are not what it cost, which another invoice says, but more or less of it.

        They are if it was booked where that invoice reaches and this one does not. At an edge, which both reach, they
        are if those that came soon enough to be what it cost give money back alone, or there are none.
        """
        booked, rows, terms = self._booked[at], self._inside(self._claimed[at]), self._terms
        if booked.request_id == NO_REQUEST or not rows:
            return False
        if not terms.reaches(booked.time):
            return True
        soon = [row.amount for row in rows if row.time is None or row.time - booked.time <= terms.edge]
        return terms.is_edge(booked) and (not soon or (max(soon) <= 0 and min(soon) < 0))

    def _part(self, at: int) -> None:
        """Make the rows of an attempt amounts of their own, one for each time."""
        by_time: dict[datetime | None, Rows] = {}
        for row in self._inside(self._claimed.pop(at)):
            by_time.setdefault(row.time, []).append(row)
        for moment, rows in by_time.items():
            known = next((place for place in self._posted if self._is_posted_for(place, rows[0], moment)), None)
            if known is None:
                self._more.append((self._booked[at], rows))
            else:
                self._claimed[known] = rows

    def _is_posted_for(self, at: int, row: Row, moment: datetime | None) -> bool:
        posted = self._booked[at]
        is_same = row.id in posted.upstream_ids or (row.request or row.id) == own_id(posted)
        is_then = posted.until is not None if moment is None else (posted.time, posted.until) == (moment, None)
        return at not in self._claimed and is_same and is_then

    def _inside(self, rows: Rows) -> tuple[Row, ...]:
        return tuple(row for row in rows if self._covers(row))

    def _all(self) -> Iterable[Finding | None]:
        strange = [self._strange(rows) for rows in map(self._inside, self._unclaimed) if rows]
        strange += [self._strange(tuple(rows), of) for of, rows in self._more]
        given_way = self._given_way(strange)
        for at, each in enumerate(self._booked):
            if at in given_way.values():
                yield Finding(Kind.PRESUMED_UNBILLED, each, (), each.day, each.model)
            else:
                rows = self._claimed.get(at, [])
                yield self._judged(each, self._inside(rows), is_billed=bool(rows))
        for number, finding in enumerate(strange):
            place = given_way.get(number)
            if finding is None or place is None:
                yield finding
            else:
                yield replace(finding, stands_for=self._booked[place])
        for row in self._doubled:
            if self._covers(row):
                yield Finding(Kind.DOUBLED, None, (row,), row.time.date() if row.time else None, row.model)

    def _judged(self, booked: Booked, rows: tuple[Row, ...], *, is_billed: bool) -> Finding | None:
        if not rows and (is_billed or not self._terms.covers_booked(booked)):
            return None
        kind = classed(booked, rows, self._terms, presumed=True)
        if kind is None:
            return None
        if not rows and self._terms.is_edge(booked):
            kind = Kind.AT_EDGE
        moment = rows[0].time if rows else None
        return Finding(kind, booked, rows, moment.date() if moment else booked.day, booked.model)

    def _strange(self, rows: tuple[Row, ...], of: Booked | None = None) -> Finding | None:
        kind = classed(None, rows, self._terms, presumed=True)
        if kind is None:
            return None
        since, until = (rows[0].time, None) if rows[0].time else (self._terms.since, self._terms.until)
        model = of.model if of else self._names.ours(rows[0].model)
        return Finding(kind, None, rows, since.date(), model, since, until, of=of)

    def _given_way(self, strange: Sequence[Finding | None]) -> dict[int, int]:
        """Which presumption near an edge gives way to which amount that the invoice alone has, by their places.

        They may be the same call, and both would count. If the presumption is another's, that call is on the invoice
        beside this one, by an id that nobody knows either, and is booked from there.
        """
        free = [at for at, each in enumerate(self._booked) if at not in self._claimed and self._is_open(each)]
        free.sort(key=lambda at: self._booked[at].time)
        found: dict[int, int] = {}
        for number, finding in enumerate(strange):
            if finding is None or finding.of or finding.difference <= 0 or any(row.request for row in finding.rows):
                continue  # a call of ours would have our id there
            for at in free:
                if self._may_be(self._booked[at], finding.rows):
                    found[number] = at
                    free.remove(at)
                    break
        return found

    def _may_be(self, booked: Booked, rows: tuple[Row, ...]) -> bool:
        moment, models = rows[0].time, {self._names.ours(row.model) for row in rows} - {""}
        is_near = moment is None or abs(booked.time - moment) <= self._terms.edge
        return is_near and (not models or booked.model in models)

    def _is_open(self, booked: Booked) -> bool:
        unknown = booked.unconfirmed != 0 and not booked.upstream_ids
        return unknown and self._terms.is_edge(booked) and self._terms.reaches(booked.time)

    def _covers(self, row: Row) -> bool:
        return row.time is None or self._terms.covers(row.time)


def own_id(booked: Booked) -> str:
    """Return the gateway's id of the request, also of one that only an invoice told of."""
    return str(booked.about.get("request") or NO_REQUEST) if booked.request_id == NO_REQUEST else booked.request_id


def _said(row: Row) -> Hashable:
    return row.id, row.request, row.amount, row.time, row.model, row.images
