"""`image-gateway spend`: what was spent, by whatever you want to tell apart, and what it would have cost elsewhere."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import click
from click.core import ParameterSource
from rich.table import Table

from gateway.cli.options import Misused, example, export_option, format_option, store_options, together
from gateway.cli.progress import quiet_option, watched
from gateway.cli.running import checked_policy, clear_errors, connected, store_to_read
from gateway.cli.tables import show
from gateway.domain.budget import Window
from gateway.domain.policy import Policy
from gateway.reporting.experiments import ArmsReport, arms_report
from gateway.reporting.reports import (
    NO_REQUESTS,
    Period,
    ReportError,
    ReportSource,
    RepricedReport,
    SpendReport,
    UnknownName,
    check_dimensions,
    check_project,
    period_of,
    repriced_report,
    spend_report,
)

Report = SpendReport | RepricedReport | ArmsReport

period_options = together(
    click.option(
        "--window",
        default=Window.MONTH.value,
        show_default=True,
        type=click.Choice([window.value for window in Window]),
        help="The current calendar window, UTC.",
    ),
    click.option("--since", default=None, help="From then on, instead of a window: 2026-11-01, a time, or 30d."),
    click.option("--until", default=None, help="Up to then, not included: a day's beginning, a time, or 12h."),
)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What to report of, and where it lies."""

    by: tuple[str, ...]
    period: Period
    project: str | None
    policy: Policy | None
    export: tuple[Path, ...]
    realm: str
    shadows: bool = False
    experiment: str | None = None

    async def read(self, url: str) -> Report:
        """Return the report from the store at this URL."""
        async with connected(url, self.realm, writes=False) as store:
            source = ReportSource(store, self.realm, self.period, self.project, self.export)
            found = await self._report(source)
            if not found.table():
                await check_project(source)
            return found

    async def _report(self, source: ReportSource) -> Report:
        if self.experiment is not None:
            return await arms_report(source, self.experiment)
        if self.policy is None:
            return await spend_report(source, self.by, shadows=self.shadows)
        return await repriced_report(source, self.policy, self.by, shadows=self.shadows)


@click.command(
    short_help="Report what was spent, in three price views.",
    epilog=example("spend", "spend --since 30d --by project,model --format csv"),
)
@click.option("--project", default=None, help="One project alone.")
@period_options
@click.option(
    "--by",
    default="project,job_type,route",
    show_default=True,
    help="Comma-separated: project, key, job_type, route, model, provider, operation, quality, size, experiment, "
    "arm, shadow, hour, day, month, tag:NAME.",
)
@click.option("--experiment", default=None, help="Compare the arms of this experiment instead.")
@click.option("--shadow", is_flag=True, help="Count shadow requests too, which are paid for by budgets of their own.")
@click.option(
    "--reprice",
    default=None,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A policy directory: what the same work would have cost by its prices.",
)
@export_option
@format_option("table", "csv", "json", envvar="IMAGE_GATEWAY_SPEND_FORMAT")
@quiet_option
@store_options
@click.pass_context
def spend(
    context: click.Context,
    project: str | None,
    window: str,
    since: str | None,
    until: str | None,
    by: str,
    experiment: str | None,
    shadow: bool,
    reprice: Path | None,
    export: tuple[Path, ...],
    form: str,
    store: str,
    data: Path,
    realm: str,
) -> None:
    """Report spend in three price views: the vendor's published price, the route's, the project's own.

    Every figure comes from the entries that settlements left in the ledger.
    """
    if (since or until) and _is_given(context, "window"):
        raise click.UsageError("--window is a period of its own: give that, or --since and --until")
    if experiment is not None and (shadow or reprice or _is_given(context, "by")):
        raise click.UsageError("--experiment is a report of its own: it takes neither --by, --shadow nor --reprice")
    names = tuple(name.strip() for name in by.split(",") if name.strip())
    try:
        check_dimensions(names)
        period = period_of(Window(window), since, until)
    except ReportError as error:
        raise Misused(str(error)) from error
    asked = _Asked(
        names, period, project, checked_policy(reprice) if reprice else None, export, realm, shadow, experiment
    )
    with clear_errors(), watched(), store_to_read(store, data) as url:
        try:
            found = asyncio.run(asked.read(url))
        except UnknownName as error:
            raise Misused(str(error)) from error
    _print(found, form, _period_words(window, since, until))


def _is_given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE


def _period_words(window: str, since: str | None, until: str | None) -> str:
    if since or until:
        return " ".join(word for word in (since and f"since {since}", until and f"until {until}") if word)
    return f"this {window}" if window != Window.TOTAL else "all time"


def _print(found: Report, form: str, period: str) -> None:
    if form == "json":
        click.echo(json.dumps(found.as_json(), indent=2))
    elif form == "csv":
        _write_csv(found)
    else:
        _print_table(found, period)
    if found.trimmed:
        click.echo(f"entries up to {found.trimmed:%Y-%m-%d %H:%M} were trimmed: add them with --export", err=True)
    if isinstance(found, RepricedReport) and (words := found.words()):
        click.echo(words, err=True)


def _write_csv(found: Report) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow([*found.by, *found.columns])
    for group, figures in found.table():
        writer.writerow([*group, *figures.values()])


def _print_table(found: Report, period: str) -> None:
    if not found.table():
        click.echo(f"{_title(found)}, {period}: {NO_REQUESTS}")
        return
    table = Table(title=f"{_title(found)}, {period}, USD", title_justify="left")
    for name in found.by:
        table.add_column(name, overflow="fold")
    for name in found.columns:
        table.add_column(name.removesuffix("_usd").replace("_", " "), justify="right", no_wrap=True)
    for group, figures in found.table():
        table.add_row(*group, *map(_cell, figures.values()))
    table.add_section()
    table.add_row(*["total", *[""] * (len(found.by) - 1)][: len(found.by)], *map(_cell, found.sums().values()))
    show(table)


def _title(found: Report) -> str:
    if isinstance(found, ArmsReport):
        return f"Experiment {found.experiment}"
    return f"Spend and at policy {found.digest}" if isinstance(found, RepricedReport) else "Spend"


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
