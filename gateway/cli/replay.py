"""`image-gateway replay`: what another policy would have made of the requests on record."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from pathlib import Path

import click
from rich.table import Table

from gateway.cli.options import Fatal, Misused, example, export_option, format_option, policy_option, store_options
from gateway.cli.progress import quiet_option, watched
from gateway.cli.replay_page import page
from gateway.cli.running import checked_policy, clear_errors, connected, store_to_read, write_whole
from gateway.cli.tables import show
from gateway.domain import money
from gateway.domain.budget import Window
from gateway.domain.policy import Policy
from gateway.ledger.segments import ExportError
from gateway.reporting.replaying import NOTES, Replay, ReplayRow, replay
from gateway.reporting.reports import NO_REQUESTS, Period, ReportError, UnknownName, period_of


@click.command(
    "replay",
    short_help="Play recorded requests under another policy.",
    epilog=example("replay --policy policy-next/", "replay --policy policy-next/ --since 7d --chart page.html"),
)
@policy_option
@click.option("--since", default="30d", show_default=True, help="From then on: 2026-11-01, a time, or so long ago.")
@click.option("--until", default=None, help="Up to then, not included: a day's beginning, a time, or 12h.")
@click.option("--project", default=None, help="Show one project alone; budgets feel all of them.")
@export_option
@format_option("table", "json", "html")
@click.option(
    "--chart", default=None, type=click.Path(dir_okay=False, path_type=Path), help="Write a page with charts there."
)
@quiet_option
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
        raise Misused(str(error)) from error
    if chart is not None:
        _check_chart(chart)
    rules = checked_policy(policy)
    with clear_errors(), watched(), store_to_read(store, data) as url:
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
    if not os.access(chart if chart.exists() and not chart.is_file() else folder, os.W_OK):
        raise Misused(f"cannot write {chart}: permission denied")


def _write_chart(chart: Path, found: Replay) -> None:
    try:
        write_whole(chart, page(found))
    except OSError as error:
        raise Misused(f"cannot write {chart}: {error.strerror}") from error
    click.echo(f"wrote {chart}", err=True)


async def _play(
    url: str, realm: str, policy: Policy, period: Period, project: str | None, export: Sequence[Path]
) -> Replay:
    async with connected(url, realm, writes=False) as store:
        return await replay(store, realm, policy, period=period, project=project, export=export)


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
    if found.total.left:
        click.echo(found.total.left_out())


def _figures(row: ReplayRow) -> list[str]:
    before = f"{row.degraded_before} → {row.degraded}" if row.degraded_before != row.degraded else str(row.degraded)
    then, now = row.recorded.route, row.replayed.route
    usd = map(money.format_usd, (then, now, now - then))
    return [str(row.requests), str(row.denied), before, str(row.moved), str(row.repriced), *usd]


def _counts(title: str, names: Sequence[str], counted: Sequence[dict[str, object]]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    table.add_column("requests", justify="right", no_wrap=True)
    for each in counted:
        table.add_row(*(str(each[name]) for name in names), str(each["requests"]))
    return table
