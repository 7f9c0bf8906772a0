"""`image-gateway reconcile`: the ledger beside a provider's invoice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import click

from gateway.cli.differences import Outcome, print_outcome
from gateway.cli.numbers import Whole
from gateway.cli.options import (
    Fatal,
    Misused,
    check_output,
    example,
    export_option,
    format_option,
    store_options,
    together,
)
from gateway.cli.progress import NOTHING_CHANGED, quiet_option, watched
from gateway.cli.running import clear_errors, connected, existing_store
from gateway.config.problems import did_you_mean, shown
from gateway.domain import money
from gateway.domain.corrections import Source
from gateway.domain.day_matching import unsplit_day
from gateway.domain.invoice import Invoice, InvoiceError, Match, parse_columns, parse_unit, read_invoice
from gateway.domain.matching import reconcile as laid_side_by_side
from gateway.domain.model_names import is_known
from gateway.domain.period import day_start, parse_moment, parse_span
from gateway.domain.reconciling import Booked, Kind, Terms
from gateway.ledger.clock import warn_if_ahead
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.reporting.applying import Applied, book_corrections
from gateway.reporting.reconciliation import (
    ReconcileError,
    booked_at,
    lost_since,
    providers_booked,
    told_trimmed,
)
from gateway.reporting.recorded import trimmed_until

DAY = timedelta(days=1)
WIDEST_EDGE = 366 * DAY
MOST_BAD = 50
"""Bad rows that are shown; a file with more has one fault, not many."""
MANY = 10
"""Rows of which at least one must be found, before corrections are booked for those that are not."""

LEFT = "corrections that were booked stay; run it again for the others, each is booked once"
"""What is so when --apply was stopped."""

invoice_options = together(
    click.argument("invoice", type=click.Path(exists=True, dir_okay=False, path_type=Path)),
    click.option(
        "--provider", default=None, help="Whose invoice: a provider's name in the policy, else the only one booked."
    ),
    click.option(
        "--columns",
        default="id=request_id,amount=cost_usd,time=timestamp",
        show_default=True,
        help="ROLE=COLUMN, comma-separated. Roles: id (the provider's request id), request (the gateway's), amount, "
        "time, model, images, currency.",
    ),
    click.option(
        "--match",
        default=Match.REQUEST.value,
        show_default=True,
        type=click.Choice([match.value for match in Match]),
        help="Each request by its id, or the sums of each day and model.",
    ),
    click.option(
        "--currency-unit",
        default="usd",
        show_default=True,
        help="What one of the amounts is: usd, cents, micro, nano, or USD as a number or ratio such as 1/68.",
    ),
    click.option("--tolerance", default="0", show_default=True, help="USD by which amounts may differ and be equal."),
    click.option("--skip-bad", is_flag=True, help="Go on without the rows that cannot be read."),
)
scope_options = together(
    click.option("--since", default=None, help="Where the invoice begins, else with its first day: 2026-11-01 or 30d."),
    click.option("--until", default=None, help="Where it ends, not included, else after its last day."),
    click.option("--edge", default="10m", show_default=True, help="How near to an edge of it nothing is missed."),
    click.option("--model", multiple=True, default=(), help="This model alone. May be repeated."),
    export_option,
)
outcome_options = together(
    click.option("--apply", is_flag=True, help="Book the corrections, each once."),
    click.option("--top", default=20, show_default=True, type=Whole(0), help="Differences in the table."),
    format_option("table", "csv", "json", envvar="IMAGE_GATEWAY_RECONCILE_FORMAT"),
    quiet_option,
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """An invoice that was read, and what it is to be laid beside."""

    read: Invoice
    match: Match
    terms: Terms
    invoice: str
    provider: str | None
    """None: the only one in the books."""
    models: tuple[str, ...]
    export: tuple[Path, ...]
    realm: str
    applies: bool

    async def run(self, url: str) -> Outcome:
        """Read the ledger, lay both side by side, and book the corrections if that is wanted."""
        if self.applies:
            check_output("what was done")
        async with connected(url, self.realm, writes=self.applies) as store:
            await warn_if_ahead(store, self.realm)
            provider = await self._only_provider(store) if self.provider is None else self.provider
            source = Source(provider, self.invoice)
            booked = await booked_at(store, self.realm, source.provider, self.terms, export=self.export)
            if not booked:
                await self._check_known(store, source.provider)
            rows = self.read.rows
            if self.models and rows and not any(is_known(model, booked, rows) for model in self.models):
                raise Misused(f"neither invoice nor books have a model {' or '.join(map(shown, self.models))}")
            self._check_split(booked)
            findings = laid_side_by_side(self.match, booked, rows, self.terms, self.models)
            outcome = Outcome(self.match, self.terms, source, tuple(findings), self.read.unread)
            return replace(outcome, applied=await self._apply(store, outcome)) if self.applies else outcome

    def _check_split(self, booked: Sequence[Booked]) -> None:
        """Raise ReconcileError where a model alone is asked for, and nobody knows what it cost."""
        day = unsplit_day(booked, self.terms, self.models) if self.match is Match.DAY else None
        if day is not None:
            raise ReconcileError(
                f"on {day} an earlier version booked both models of conversations as one sum: leave --model out"
            )

    async def _only_provider(self, store: Store) -> str:
        known, trimmed = await self._known(store)
        if trimmed:
            raise Misused(f"say whose invoice it is with --provider, or {trimmed}")
        if len(known) == 1:
            return known[0]
        there = f"the books have {', '.join(known)}" if known else "nothing is booked yet"
        raise Misused(f"say whose invoice it is with --provider: {there}")

    async def _check_known(self, store: Store, provider: str) -> None:
        """Raise Misused for a provider that only others stand beside: its invoice would be booked a second time."""
        known, trimmed = await self._known(store)
        if (known or trimmed) and provider not in known:
            nothing = "the store has nothing booked" if trimmed else "nothing was ever booked"
            told = f"{nothing} at provider {shown(provider)}{did_you_mean(provider, known)}"
            there = f"the books have {', '.join(known)}"
            raise Misused(f"{told}; {trimmed or there}")

    async def _known(self, store: Store) -> tuple[list[str], str]:
        """Return the providers that are known, and what to say where there may be others."""
        known = await providers_booked(store, self.realm, export=self.export)
        until = None if self.export else await trimmed_until(store, self.realm)
        return known, told_trimmed(until) if until else ""

    async def _apply(self, store: Store, outcome: Outcome) -> Applied:
        findings = outcome.findings
        found = any((finding.booked or finding.of) and finding.rows for finding in findings)
        if not found and sum(finding.kind is Kind.ONLY_THEIRS for finding in findings) >= MANY:
            raise Fatal("nothing on the invoice was found in the ledger: are --columns and --provider right?")
        ledger = RedisLedger(store, self.realm)
        try:
            await ledger.open(create=False)
            since = await lost_since(store, self.realm) if self.export else None
            return await book_corrections(ledger, outcome.bookable, outcome.source, since)
        finally:
            await ledger.aclose()


@click.command(
    short_help="Lay a provider's invoice beside the ledger.",
    epilog=example("reconcile invoice.csv", "reconcile invoice.csv --provider main --apply"),
)
@invoice_options
@scope_options
@outcome_options
@store_options
def reconcile(
    invoice: Path,
    provider: str | None,
    columns: str,
    match: str,
    currency_unit: str,
    tolerance: str,
    skip_bad: bool,
    since: str | None,
    until: str | None,
    edge: str,
    model: tuple[str, ...],
    export: tuple[Path, ...],
    apply: bool,
    top: int,
    form: str,
    store: str,
    data: Path,
    realm: str,
) -> None:
    """Lay a provider's INVOICE (CSV) beside the ledger, class every difference, and book corrections with --apply.

    Exit status 1 too if differences are left, so that a job that runs it by itself is noticed.
    """
    try:
        roles, unit, within, near = (
            parse_columns(columns),
            parse_unit(currency_unit),
            _edge(edge),
            money.parse_usd(tolerance),
        )
    except ValueError as error:
        raise Misused(str(error)) from error
    if model and "model" not in roles:
        raise Misused("--model needs to know the invoice's model: name its column with --columns model=COLUMN")
    try:
        read = _read(invoice, roles, unit, Match(match), skip_bad=skip_bad)
        terms = _terms(read, since, until, within, near, apply=apply)
    except ValueError as error:
        raise Fatal(f"{invoice}: {error}") from error
    asked = _Asked(read, Match(match), terms, invoice.name, provider, model, export, realm, apply)
    try:
        with clear_errors(), watched(LEFT if apply else NOTHING_CHANGED), existing_store(store, data) as url:
            outcome = asyncio.run(asked.run(url))
    except ReconcileError as error:
        raise Fatal(str(error)) from error
    print_outcome(outcome, form, top)
    raise SystemExit(0 if outcome.is_settled and not read.bad else 1)


def _edge(text: str) -> timedelta:
    span = parse_span(text)
    if span > WIDEST_EDGE:
        raise ValueError(f"--edge must be at most {WIDEST_EDGE.days}d, not {text}")
    return span


def _read(path: Path, columns: dict[str, str], unit: Fraction, match: Match, *, skip_bad: bool) -> Invoice:
    """Read the file; every row that cannot be read is told, and without --skip-bad that is the end of it."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            read = read_invoice(file, columns, unit=unit, match=match)
    except UnicodeDecodeError as error:
        raise InvoiceError("is not UTF-8 text") from error
    for bad in read.bad[:MOST_BAD]:
        click.echo(f"{path}:{bad.line}: {f'{bad.column}: ' if bad.column else ''}{bad.message}", err=True)
    if len(read.bad) > MOST_BAD:
        click.echo(f"{path}: {len(read.bad) - MOST_BAD} more", err=True)
    if read.bad and not skip_bad:
        raise InvoiceError(f"{len(read.bad)} of its rows cannot be read; mend them, or leave them out with --skip-bad")
    return read


def _terms(
    read: Invoice, since: str | None, until: str | None, edge: timedelta, tolerance: int, *, apply: bool
) -> Terms:
    now, times = datetime.now(UTC), read.times
    if not times and not (since and until):
        raise InvoiceError(
            "tells no times: name its column with --columns time=COLUMN, or give --since and --until"
            if read.rows
            else "has no rows, so say with --since and --until which period has nothing billed"
        )
    begins = parse_moment(since, now) if since else day_start(min(times))
    ends = parse_moment(until, now) if until else day_start(max(times)) + DAY
    if not until and ends > now:  # what was booked since it was written would be taken for unbilled
        if apply:
            raise InvoiceError("has a last day that is not over: say with --until until when it goes")
        click.echo("Its last day is not over: compared up to now. Say with --until until when it goes", err=True)
        ends = now
    if begins >= ends:
        raise InvoiceError(f"the period ends ({ends.isoformat()}) before it begins ({begins.isoformat()})")
    return Terms(begins, ends, edge, tolerance)
