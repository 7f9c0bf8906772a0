"""`image-gateway callbacks`: messages to clients that nobody took, and the secrets that they are signed with."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click
from rich.table import Table

from gateway.admin.callbacks import MOST, told
from gateway.cli.numbers import Whole
from gateway.cli.options import (
    Fatal,
    check_output,
    example,
    format_option,
    json_option,
    policy_option,
    store_options,
    wants_json,
)
from gateway.cli.running import check_project, checked_policy, clear_errors, connected, existing_store
from gateway.cli.tables import show
from gateway.domain.webhook import derived_secret
from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.pepper import VARIABLE, check_pepper, load_pepper
from gateway.ledger.store import Store

Result = TypeVar("Result")

_COLUMNS = ("id", "project", "task", "created", "tries", "error", "url")


@click.group(short_help="List and repeat callbacks that nobody took.")
def callbacks() -> None:
    """List callbacks that nobody took, send them again, show the secret of a project."""


@callbacks.command(
    "list", short_help="List callbacks that nobody took.", epilog=example("callbacks list --project shop")
)
@click.option("--project", default=None, help="Those of one project.")
@click.option("--limit", default=100, show_default=True, type=Whole(1, MOST), help="The newest so many.")
@format_option("table", "json", envvar="IMAGE_GATEWAY_CALLBACKS_LIST_FORMAT")
@store_options
def list_callbacks(project: str | None, limit: int, form: str, store: str, data: Path, realm: str) -> None:
    """List callbacks that were given up after ten tries, or that the receiver answered with 410."""
    found = _run(store, data, lambda connection: RedisCallbacks(connection, realm).dead(project, limit))
    rows = [told(callback) for callback in found]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(f"no callback{f' of project {project}' if project else ''} was given up", err=True)
        return
    table = Table()
    for name in _COLUMNS:
        table.add_column(name, overflow="fold", no_wrap=name in ("created", "tries"))
    for row in rows:
        table.add_row(*(str(row[name]) for name in _COLUMNS))
    show(table)


@callbacks.command(epilog=example("callbacks retry msg_…"))
@click.argument("callback_id")
@json_option
@store_options
def retry(callback_id: str, store: str, data: Path, realm: str) -> None:
    """Send one again, from its first try on."""
    if wants_json():
        check_output("what was done")
    if not _run(store, data, lambda connection: RedisCallbacks(connection, realm).revive(callback_id)):
        raise Fatal(f"there is no callback {callback_id} among those that nobody took")
    click.echo(f"{callback_id} will be sent again", err=True)
    if wants_json():
        click.echo(json.dumps({"id": callback_id, "state": "waiting"}))


@callbacks.command(
    short_help="Print the secret that signs a project's.",
    epilog=example("callbacks secret --policy policy/ --project shop"),
)
@click.option("--project", required=True, help="The project whose callbacks the receiver gets.")
@json_option
@policy_option
@store_options
def secret(project: str, policy: Path, store: str, data: Path, realm: str) -> None:
    """Print the secret of a project to which policy gives none (`callbacks.secrets`), alone, on stdout."""
    rules = checked_policy(policy)
    check_project(project, rules)
    if rules.projects[project].callback_secrets:
        raise Fatal(f"policy names the secrets of {project} itself: projects.{project}.callbacks.secrets")

    async def derive(connection: Store) -> str:
        pepper = load_pepper(data, os.environ.get(VARIABLE))
        await check_pepper(connection, pepper, realm)
        return derived_secret(pepper, project)

    found = _run(store, data, derive)
    click.echo(f"callbacks of project {project} are signed with it", err=True)
    click.echo(json.dumps({"project": project, "secret": found}) if wants_json() else found)


def _run(store: str, data: Path, work: Callable[[Store], Awaitable[Result]]) -> Result:
    with clear_errors(), existing_store(store, data) as url:
        return asyncio.run(_with_store(url, work))


async def _with_store(url: str, work: Callable[[Store], Awaitable[Result]]) -> Result:
    async with connected(url, deadline=5.0) as connection:
        return await work(connection)
