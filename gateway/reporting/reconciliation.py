"""Reconciliation: what the ledger has booked at a provider, read for an invoice."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from gateway.domain.adjusting import held_of
from gateway.domain.corrections import told_of
from gateway.domain.period import as_utc
from gateway.domain.reconciling import Booked, Terms
from gateway.domain.spend import NO_REQUEST, PRESUME, attempt_of, presumes
from gateway.ledger.entries import Entry
from gateway.ledger.leases import REMEMBERED_SECONDS
from gateway.ledger.store import Store
from gateway.reporting.recorded import recorded_entries, trimmed_until

SLACK = timedelta(days=1)
"""How far before the period is read, for rows whose request was booked earlier by the store's clock."""


class ReconcileError(ValueError):
    """It cannot be reconciled as asked; the message says what to do."""


async def booked_at(
    store: Store,
    realm: str,
    provider: str,
    terms: Terms,
    *,
    export: Sequence[Path] = (),
) -> list[Booked]:
    """Return what is booked at a provider from a day before the period until now.

    ReconcileError if the store no longer has the entries of the period and no export was given.
    """
    trimmed = await trimmed_until(store, realm)
    if trimmed is not None and trimmed >= terms.since - SLACK and not export:
        raise ReconcileError(told_trimmed(trimmed))
    books = _Books()
    async for entry in recorded_entries(store, realm, since=terms.since - SLACK, export=export):
        if entry.provider == provider:
            books.add(entry)
    return list(books.attempts.values())


def told_trimmed(until: datetime) -> str:
    """Say that the store lacks entries, and what to do."""
    return f"entries up to {until:%Y-%m-%d %H:%M} were exported and trimmed: name the export with --export"


async def lost_since(store: Store, realm: str) -> datetime:
    """Return since when every attempt that was booked has a record, unless the store came back older and lost it."""
    kept = datetime.now(UTC) - timedelta(seconds=REMEMBERED_SECONDS)
    return max(await trimmed_until(store, realm) or kept, kept)


async def providers_booked(store: Store, realm: str, *, export: Sequence[Path] = ()) -> list[str]:
    """Return every provider of which anything is booked, by name."""
    found = {entry.provider async for entry in recorded_entries(store, realm, export=export)}
    return sorted(found - {""})


class _Books:
    """Entries folded into attempts. A change to an attempt that was booked before what is read tells nothing of it.

    What was posted about an attempt counts whenever that was booked: a store that came back older is told again.
    """

    def __init__(self) -> None:
        self.attempts: dict[tuple[str, object], Booked] = {}
        self._posted: dict[tuple[str, object], list[Entry]] = {}
        self._alike: dict[str, dict[str, object]] = {}

    def add(self, entry: Entry) -> None:
        key: tuple[str, object] = attempt_of(entry)
        if entry.request_id == NO_REQUEST and key[0] == NO_REQUEST:
            key = (NO_REQUEST, _posted_for(entry))
            if key not in self.attempts:
                self.attempts[key] = self._first(entry, *_billed(entry))
                return
        elif entry.request_id == NO_REQUEST:
            self._posted.setdefault(key, []).append(entry)
        if entry.kind.books:
            self.attempts[key] = self._first(entry, entry.time)
            for posted in self._posted.get(key, ()):
                _change(self.attempts[key], posted)
        elif key in self.attempts:
            _change(self.attempts[key], entry)

    def _first(self, entry: Entry, begins: datetime, until: datetime | None = None) -> Booked:
        told = told_of(entry.about, entry.facts)
        if entry.request_id == NO_REQUEST:
            told = dict(entry.about)
        told = self._alike.setdefault(repr(told), told)  # many requests are told of alike: one copy serves all
        return Booked(
            request_id=entry.request_id,
            attempt=entry.attempt,
            time=begins,
            cost=entry.cost,
            model=entry.model,
            upstream_model=str(entry.facts.get("upstream_model") or ""),
            upstream_ids=_upstream_ids(entry),
            images=entry.images,
            unconfirmed=entry.cost.route if entry.kind == PRESUME else 0,
            lines={sys.intern(cell): micro for cell, micro in entry.lines.items()},
            about=told,
            until=until,
            held=entry.worst or held_of(entry.about),
            text_model=sys.intern(str(entry.answer.get("text_model") or "")),
            text=_text(entry),
        )


def _change(booked: Booked, entry: Entry) -> None:
    before = booked.cost.route
    booked.cost += entry.cost
    if entry.answer.get("text_model"):  # an answer that came late tells what it cost in all
        booked.text_model, booked.text = str(entry.answer["text_model"]), _text(entry)
    elif booked.text is not None and before > 0:
        booked.text = booked.text * max(booked.cost.route, 0) // before
    booked.images += entry.images
    booked.unconfirmed = booked.cost.route if presumes(entry) else 0
    booked.changes += 1
    booked.upstream_ids |= _upstream_ids(entry)
    _add_lines(booked.lines, entry)
    if entry.request_id == NO_REQUEST and booked.request_id != NO_REQUEST:
        booked.posted += entry.cost
        _add_lines(booked.posted_lines, entry)


def _add_lines(lines: dict[str, int], entry: Entry) -> None:
    for cell, micro in entry.lines.items():
        lines[cell] = lines.get(cell, 0) + micro


def _upstream_ids(entry: Entry) -> set[str]:
    called = entry.answer.get("upstream_request_id")
    if called:
        return set(str(called).split(","))  # an attempt may be several calls
    named = entry.about.get("upstream_request_id")
    return {str(named)} if named else set()


def _text(entry: Entry) -> int | None:
    """What the text model of a conversation cost, nano-USD; None where there is none, or the entry does not say."""
    told = entry.answer.get("text_nano_usd")
    return told if isinstance(told, int) else None


def _posted_for(entry: Entry) -> object:
    """What an amount without a request was posted for: a row, or a day and model."""
    about = entry.about
    named = about.get("upstream_request_id") or about.get("request") or entry.model
    return named, about.get("day"), about.get("time"), about.get("until")


def _billed(entry: Entry) -> tuple[datetime, datetime | None]:
    """When what an amount without a request is for was billed: then, or from when until when; else when it was booked.

    Earlier versions name the day alone.
    """
    about = entry.about
    try:
        if "time" not in about:
            day = as_utc(datetime.combine(date.fromisoformat(str(about.get("day"))), time()))
            return day, day + timedelta(days=1)
        until = about.get("until")
        return _moment(about["time"]), None if until is None else _moment(until)
    except ValueError:
        return entry.time, None


def _moment(text: object) -> datetime:
    return as_utc(datetime.fromisoformat(str(text)))
