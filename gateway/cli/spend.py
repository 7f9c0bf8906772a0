"""`image-gateway spend`: what was spent, by whatever you want to tell apart."""

from __future__ import annotations

import asyncio
import csv
import json
import sys
from pathlib import Path

import click
from rich.table import Table

from gateway.cli.options import Fatal, store_options
from gateway.cli.running import clear_errors, existing_store
from gateway.cli.tables import show
from gateway.domain.budget import Window
from gateway.ledger.store import Store
from gateway.reports import COLUMNS, ReportError, SpendReport, cells, check_dimensions, spend_report


@click.command()
@click.option("--project", default=None, help="One project alone.")
@click.option(
    "--window",
    default=Window.MONTH.value,
    show_default=True,
    type=click.Choice([window.value for window in Window]),
    help="The current calendar window, UTC.",
)
@click.option(
    "--by",
    default="project,job_type,route",
    show_default=True,
    help="Comma-separated: project, key, job_type, route, model, provider, operation, quality, size, day, tag:NAME.",
)
@click.option(
    "--format",
    "form",
    default="table",
    show_default=True,
    envvar="IMAGE_GATEWAY_SPEND_FORMAT",
    type=click.Choice(["table", "csv", "json"]),
)
@store_options
def spend(project: str | None, window: str, by: str, form: str, store: str, data: Path, realm: str) -> None:
    """Report spend in three price views: the vendor's published price, the route's, the project's own.

    Every figure comes from the entries that settlements left in the ledger.
    """
    names = [name.strip() for name in by.split(",") if name.strip()]
    try:
        check_dimensions(names)
    except ReportError as error:
        raise Fatal(str(error)) from error
    with clear_errors(), existing_store(store, data) as url:
        found = asyncio.run(_read(url, realm, names, Window(window), project))
    if form == "json":
        click.echo(json.dumps(found.as_json(), indent=2))
    elif form == "csv":
        _write_csv(found)
    else:
        _print_table(found, window)


async def _read(url: str, realm: str, by: list[str], window: Window, project: str | None) -> SpendReport:
    connection = Store(url, deadline=30.0)
    try:
        await connection.check()
        return await spend_report(connection, realm, by=by, window=window, project=project)
    finally:
        await connection.aclose()


def _write_csv(found: SpendReport) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow([*found.by, *COLUMNS])
    for row in found.rows:
        writer.writerow([*row.group, *cells(row).values()])


def _print_table(found: SpendReport, window: str) -> None:
    table = Table(title=f"Spend, {window if window != 'total' else 'all time'}, USD", title_justify="left")
    for name in found.by:
        table.add_column(name, overflow="fold")
    for name in COLUMNS:
        table.add_column(name.removesuffix("_usd"), justify="right", no_wrap=True)
    for row in found.rows:
        table.add_row(*row.group, *map(str, cells(row).values()))
    table.add_section()
    table.add_row(*["total", *[""] * (len(found.by) - 1)][: len(found.by)], *map(str, cells(found.total).values()))
    show(table)
