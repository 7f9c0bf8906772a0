"""`image-gateway ledger`: balances against the entries they come from; exports; what invoices change."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click

from gateway.cli.adjusting import adjusted
from gateway.cli.numbers import Whole
from gateway.cli.options import (
    check_folder,
    check_output,
    example,
    filled,
    format_option,
    json_option,
    store_options,
    wants_json,
)
from gateway.cli.progress import NOTHING_CHANGED, quiet_option, watched
from gateway.cli.running import clear_errors, connected, existing_store, store_to_read
from gateway.domain import money
from gateway.ledger.audit import Audit, audit
from gateway.ledger.export import Exported, export_lines
from gateway.ledger.export import export as export_entries
from gateway.ledger.rebuild import Rebuilt
from gateway.ledger.rebuild import rebuild as rebuild_balances
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store

Result = TypeVar("Result")

STDOUT = "-"
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


@click.group(short_help="Verify, rebuild, export and adjust the ledger.")
def ledger() -> None:
    """Verify, rebuild and export the ledger; adjust what a request cost."""


@ledger.command(short_help="Compare every balance with the entries.", epilog=example("ledger verify --export exports/"))
@click.option(
    "--export",
    "export",
    multiple=True,
    default=(),
    type=click.Path(exists=True, path_type=Path),
    help="A directory or file of `ledger export`; may be repeated.",
)
@click.option("--thorough", is_flag=True, help="Also look through every request that is remembered.")
@format_option("text", "json", envvar="IMAGE_GATEWAY_LEDGER_VERIFY_FORMAT")
@quiet_option
@store_options
@click.pass_context
def verify(
    context: click.Context, export: tuple[Path, ...], thorough: bool, form: str, store: str, data: Path, realm: str
) -> None:
    """Compare every balance with the entries and the live holds; exit status 1 if anything differs.

    Changes nothing, and may run beside gateways.
    """
    found = _with_store(
        store, data, lambda connection: audit(connection, realm, export=export, thorough=thorough), writes=False
    )
    if form == "json":
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        _show_audit(found)
    context.exit(0 if found.agrees else 1)


@ledger.command(
    short_help="Put balances right by the entries.", epilog=example("ledger rebuild", "ledger rebuild --from exports/")
)
@click.option(
    "--from",
    "export",
    envvar="IMAGE_GATEWAY_LEDGER_REBUILD_FROM",
    multiple=True,
    default=(),
    type=click.Path(exists=True, path_type=Path),
    help="A directory or file of `ledger export`, to bring back what the store lost; may be repeated.",
)
@click.option("--empty", is_flag=True, help="Begin anew in a store that was emptied; its history is lost.")
@json_option
@quiet_option
@store_options
@click.pass_context
def rebuild(context: click.Context, export: tuple[Path, ...], empty: bool, store: str, data: Path, realm: str) -> None:
    """Put balances right by the entries and the live holds, and say what was changed.

    May run beside gateways. Those that wait because the store was emptied go on once it is done.
    """
    if empty and export:
        raise click.UsageError("--empty and --from exclude each other")
    check_output("what was done")
    done: Rebuilt = _with_store(
        store,
        data,
        lambda connection: rebuild_balances(connection, realm, export=export, accept_loss=empty),
        left="what was put right stays; run it again to finish",
    )
    if wants_json():
        click.echo(json.dumps({"changes": done.changes, **_as_json(done.audit)}, indent=2))
    else:
        for change in done.changes or ["nothing was to be changed"]:
            click.echo(change)
        _show_audit(done.audit)
    context.exit(0 if done.audit.agrees else 1)


def _duration(_context: click.Context, _option: click.Parameter, value: str) -> float:
    match = re.fullmatch(r"([0-9]{1,9})([smhdw])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no duration such as 12h or 35d")
    return float(int(match[1]) * UNITS[match[2]])


def _target(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Return where entries go."""
    target = check_folder(value)
    if target != STDOUT and Path(target).exists() and not Path(target).is_dir():
        raise click.BadParameter(f"{target!r} is a file, and a directory is wanted")
    return target


@ledger.command(
    short_help="Copy entries to files, and trim them.",
    epilog=example("ledger export --to exports/", "ledger export --to exports/ --trim --keep 90d"),
)
@click.option(
    "--to",
    "target",
    default=STDOUT,
    show_default=True,
    callback=_target,
    metavar="DIR",
    envvar="IMAGE_GATEWAY_LEDGER_EXPORT_TO",
    help="Where to append; `-` writes all there is to stdout.",
)
@click.option("--trim", is_flag=True, help="Remove from the store what is exported and older than --keep.")
@click.option("--keep", default="35d", show_default=True, callback=_duration, help="s, m, h, d or w after a number.")
@json_option
@quiet_option
@store_options
def export(target: str, trim: bool, keep: float, store: str, data: Path, realm: str) -> None:
    """Write every entry as a line of JSON, or append new ones to files, each chained to the one before by a hash.

    May be killed at any moment and run again: no entry is lost, none is written twice.
    """
    if target == STDOUT:
        if trim:
            raise click.UsageError("only what lies in a directory can be trimmed: give --to a directory")
        if wants_json():
            raise click.UsageError("stdout gets lines of JSON already: leave out --json, or give --to a directory")
        _with_store(store, data, lambda connection: _print_lines(connection, realm), prints=True)
        return
    check_output("what was done")
    directory, kept = Path(target), keep if trim else None
    done: Exported = _with_store(
        store,
        data,
        lambda connection: export_entries(connection, realm, directory, keep=kept),
        left=f"what is in {directory} is whole; run it again to go on",
    )
    if done.cut:
        click.echo(done.cut, err=True)
    if wants_json():
        click.echo(json.dumps({"directory": str(directory), **asdict(done)}, indent=2))
        return
    ends = f"; the last one is {done.last}" if done.last else ""
    trimmed = f", {done.trimmed} trimmed from the store" if trim else ""
    click.echo(f"{done.written} entries exported to {directory}{trimmed}{ends}")


def _amount(_context: click.Context, _option: click.Parameter, value: str) -> int:
    try:
        nano = money.parse_usd(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    if nano > money.MAX_REQUEST:
        raise click.BadParameter(f"no request costs more than {money.format_usd(money.MAX_REQUEST)} USD")
    return nano


@ledger.command(
    short_help="Book what an invoice or a refund says.",
    epilog=example("ledger adjust req_… --cost 0.042 --reason 'invoice 2026-118'"),
)
@click.argument("request_id")
@click.option("--cost", required=True, callback=_amount, help="What it cost in truth, USD; 0 for a full refund.")
@click.option("--attempt", default=None, type=Whole(1), help="Which attempt, if several were billed.")
@click.option("--reason", required=True, callback=filled, help="Such as the number of the invoice; kept in the entry.")
@click.option(
    "--id",
    "name",
    default=None,
    envvar="IMAGE_GATEWAY_LEDGER_ADJUST_ID",
    help="Booked once by this name; made of all the above unless given.",
)
@json_option
@store_options
def adjust(
    request_id: str, cost: int, attempt: int | None, reason: str, name: str | None, store: str, data: Path, realm: str
) -> None:
    """Book what an attempt cost in truth, by an invoice or a refund. The other price views change by the same ratio."""

    async def work(connection: Store) -> tuple[dict[str, object], str]:
        books = RedisLedger(connection, realm)
        done = await adjusted(books, connection, realm, request_id, attempt, cost, reason, name)
        await books.aclose()
        number, made = done.adjustment.attempt, done.adjustment.id
        usd, change = money.format_usd(cost), money.format_usd(done.change)
        told = {"id": made, "request": request_id, "attempt": number, "booked": done.booked, "change_usd": change}
        if not done.booked:
            return told, f"adjustment {made} was booked before; nothing changed"
        return told, f"request {request_id}, attempt {number}: {usd} USD, a change of {change}"

    check_output("what was done")
    told, words = _with_store(store, data, work)
    click.echo(json.dumps(told, indent=2) if wants_json() else words)


async def _print_lines(store: Store, realm: str) -> None:
    async for line in export_lines(store, realm):
        click.echo(line)


def _with_store(
    store: str,
    data: Path,
    work: Callable[[Store], Awaitable[Result]],
    *,
    left: str = NOTHING_CHANGED,
    prints: bool = False,
    writes: bool = True,
) -> Result:
    async def run(url: str) -> Result:
        async with connected(url, writes=writes) as connection:
            return await work(connection)

    chosen = existing_store if writes else store_to_read
    with clear_errors(), watched(left, prints=prints), chosen(store, data) as url:
        return asyncio.run(run(url))


def _show_audit(found: Audit) -> None:
    for note in found.notes:
        click.echo(f"note: {note}")
    for finding in found.findings:
        click.echo(str(finding))
    counts = ", ".join(f"{count} {what}" for what, count in _counts(found).items())
    click.echo(f"balances agree: {counts}" if found.agrees else f"{len(found.findings)} findings in {counts}")


def _counts(found: Audit) -> dict[str, int]:
    counts = {"balances": found.compared, "entries": found.snapshot.entries, "live holds": found.holds.count}
    return {**counts, "exported lines": found.history.lines} if found.history else counts


def _as_json(found: Audit) -> dict[str, object]:
    findings = [{**asdict(each), "kind": str(each.kind)} for each in found.findings]
    counts = {name.replace(" ", "_"): count for name, count in _counts(found).items()}
    return {"agree": found.agrees, **counts, "findings": findings, "notes": found.notes}
