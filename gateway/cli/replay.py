"""`image-gateway replay`: what another policy would have made of the requests on record."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gateway.cli.options import Fatal, Misused, export_option, policy_option, store_options
from gateway.cli.replay_page import page
from gateway.cli.running import clear_errors, existing_store
from gateway.cli.tables import show
from gateway.config.load import check_policy
from gateway.domain import money
from gateway.domain.budget import Window
from gateway.domain.policy import Policy
from gateway.ledger.segments import ExportError
from gateway.ledger.store import Store
from gateway.process.app import today
from gateway.reporting.replaying import NOTES, Line, Replay, entries_in, replay
from gateway.reporting.reports import NO_REQUESTS, Period, ReportError, UnknownName, period_of

_STEP = 200
"""Entries between two moves of the progress bar."""


@click.command("replay")
@policy_option
@click.option("--since", default="30d", show_default=True, help="From then on: 2026-11-01, a time, or so long ago.")
@click.option("--until", default=None, help="Up to then, not included: a day's beginning, a time, or 12h.")
@click.option("--project", default=None, help="Show one project alone; budgets feel all of them.")
@export_option
@click.option(
    "--format",
    "form",
    default="table",
    show_default=True,
    type=click.Choice(["table", "json", "html"]),
    help="How to show it.",
)
@click.option(
    "--chart", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts there."
)
@store_options
def replay_command(
    policy: Path,
    since: str,
    until: str | None,
    project: str | None,
    export: tuple[Path, ...],
    form: str,
    chart: Path | None,
    store: str,
    data: Path,
    realm: str,
) -> None:
    """Play recorded requests under the policy in --policy: cost, denials, degradations, moves.

    Nothing is called and nothing is spent. Records have no prompts; the shape of a request is all that is needed.
    """
    try:
        period = period_of(Window.MONTH, since, until)
    except ReportError as error:
        raise Fatal(str(error)) from error
    if chart is not None:
        _check_chart(chart)
    rules = _policy(policy)
    with clear_errors(), existing_store(store, data) as url:
        try:
            found = asyncio.run(_play(url, realm, rules, period, project, export))
        except UnknownName as error:
            raise Misused(str(error)) from error
        except ExportError as error:
            raise Fatal(str(error)) from error
    if chart is not None:
        _write_chart(chart, found)
    if form == "json":
        click.echo(json.dumps(found.as_json(), indent=2))
    elif form == "html":
        click.echo(page(found))
    else:
        _print(found)
    if found.trimmed:
        click.echo(f"entries up to {found.trimmed:%Y-%m-%d %H:%M} were trimmed: add them with --export", err=True)


def _check_chart(chart: Path) -> None:
    """Refuse, before the work is done, a path that cannot be written."""
    folder = chart.parent
    if not folder.is_dir():
        raise Misused(f"cannot write {chart}: {folder} is no directory")
    if not os.access(chart if chart.exists() else folder, os.W_OK):
        raise Misused(f"cannot write {chart}: permission denied")


def _write_chart(chart: Path, found: Replay) -> None:
    try:
        chart.write_text(page(found), encoding="utf-8")
    except OSError as error:
        raise Misused(f"cannot write {chart}: {error.strerror}") from error
    click.echo(f"wrote {chart}", err=True)


def _policy(directory: Path) -> Policy:
    """Read a policy, which need not find its secrets here."""
    loaded = check_policy(directory, os.environ, today())
    if loaded.policy is None:
        raise Fatal("\n".join(["the policy does not check:", *map(str, loaded.problems)]))
    return loaded.policy


async def _play(
    url: str, realm: str, policy: Policy, period: Period, project: str | None, export: Sequence[Path]
) -> Replay:
    connected = Store(url, deadline=30.0, realm=realm)
    columns = (TextColumn("entries"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        await connected.check()
        count = await entries_in(connected, realm)
        console = Console(stderr=True)
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("entries", total=None if export else count)

            def progress(seen: int) -> None:
                if seen % _STEP == 0:
                    bar.update(task, completed=seen)

            return await replay(
                connected, realm, policy, period=period, project=project, export=export, progress=progress
            )
    finally:
        await connected.aclose()


def _print(found: Replay) -> None:
    if found.rows:
        _print_tables(found)
    else:
        click.echo(NO_REQUESTS)
    for note in NOTES:
        click.echo(note)


def _print_tables(found: Replay) -> None:
    table = Table(title=f"Recorded requests under policy {found.digest}, USD", title_justify="left")
    for name in ("project", "job type"):
        table.add_column(name, overflow="fold")
    columns = ("requests", "denied", "degraded", "moved", "repriced", "recorded", "replayed", "difference")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(row.project, row.job_type, *_figures(row))
    table.add_section()
    table.add_row("total", "", *_figures(found.total))
    show(table)
    told = found.as_json()
    for title, key, names in (
        ("Moves", "moves", ("project", "job_type", "from", "to")),
        ("Denials", "denials", ("project", "job_type", "code")),
    ):
        counted = told[key]
        if isinstance(counted, list) and counted:
            show(_counts(title, names, counted))
    if found.total.estimated:
        click.echo(found.total.estimates())


def _figures(row: Line) -> list[str]:
    before = f"{row.degraded_before} → {row.degraded}" if row.degraded_before != row.degraded else str(row.degraded)
    then, now = row.recorded.route, row.replayed.route
    usd = map(money.format_usd, (then, now, now - then))
    return [str(row.requests), str(row.denied), before, str(row.moved), str(row.repriced), *usd]


def _counts(title: str, names: Sequence[str], counted: Sequence[dict[str, object]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    table.add_column("requests", justify="right")
    for each in counted:
        table.add_row(*(str(each[name]) for name in names), str(each["requests"]))
    return table
