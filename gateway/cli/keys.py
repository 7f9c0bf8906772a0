"""`image-gateway keys`: who may call. A key is shown once, when it is made."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click
from rich.table import Table

from gateway.cli.options import Fatal, store_options
from gateway.cli.running import clear_errors, existing_store
from gateway.cli.tables import show
from gateway.config.values import NAME
from gateway.ledger.keys import KeyRecord, Keys, NewKey, UnknownKey
from gateway.ledger.pepper import VARIABLE, check_pepper, load_pepper
from gateway.ledger.store import Store, store_url
from gateway.ports import LedgerUnavailable

Result = TypeVar("Result")

LONGEST_LABEL = 100


def _policy_name(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} cannot be a name in a policy")
    return value


def _label(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if len(value) > LONGEST_LABEL or not value.isprintable():
        raise click.BadParameter(f"one line of printable characters, {LONGEST_LABEL} at most")
    return value


@click.group()
def keys() -> None:
    """Create, list, revoke and rotate API keys."""


@keys.command()
@click.option(
    "--project", required=True, callback=_policy_name, help="The project whose money and quotas the key draws on."
)
@click.option("--name", default="", callback=_label, help="A name to tell it by, such as the service that uses it.")
@click.option("--job-type", default=None, callback=_policy_name, help="The job type of requests that name none.")
@store_options
def create(project: str, name: str, job_type: str | None, store: str, data: Path, realm: str) -> None:
    """Make a key and print it, alone, on stdout."""
    made = _run(store_url(store, data), data, realm, lambda keys: keys.create(project, name=name, job_type=job_type))
    _show(made, f"key {made.record.id} for project {project}; it is shown this once")


@keys.command("list")
@click.option(
    "--format",
    "form",
    default="table",
    show_default=True,
    envvar="IMAGE_GATEWAY_KEYS_LIST_FORMAT",
    type=click.Choice(["table", "json"]),
)
@store_options
def list_keys(form: str, store: str, data: Path, realm: str) -> None:
    """List every key ever made; the keys themselves are not known."""
    records = _run(existing_store(store, data), data, realm, lambda keys: keys.list())
    rows = [_row(record) for record in records]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table()
    for name in ("id", "project", "name", "job_type", "state", "created"):
        table.add_column(name, overflow="fold", no_wrap=name in ("id", "state", "created"))
    for row in rows:
        table.add_row(*(row[str(column.header)] or "-" for column in table.columns))
    show(table)


@keys.command()
@click.argument("key_id")
@store_options
def revoke(key_id: str, store: str, data: Path, realm: str) -> None:
    """End a key; within 5 seconds no gateway accepts it any more. Running requests finish."""
    record = _run(existing_store(store, data), data, realm, lambda keys: keys.revoke(key_id))
    click.echo(f"revoked {record.id} of project {record.project}", err=True)


@keys.command()
@click.argument("key_id")
@click.option(
    "--grace", default=0.0, show_default=True, type=click.FloatRange(0), help="Seconds the old key stays good."
)
@store_options
def rotate(key_id: str, grace: float, store: str, data: Path, realm: str) -> None:
    """Make a new key in place of one, and print it, alone, on stdout."""
    made = _run(existing_store(store, data), data, realm, lambda keys: keys.rotate(key_id, grace=grace))
    ends = f"in {grace:g} s" if grace else "now"
    _show(made, f"key {made.record.id} replaces {key_id}, which ends {ends}; it is shown this once")


def _show(made: NewKey, words: str) -> None:
    click.echo(words, err=True)
    click.echo(made.secret)


def _row(record: KeyRecord) -> dict[str, str | None]:
    state = "live" if record.live(datetime.now(UTC).timestamp()) else "revoked" if record.revoked else "expired"
    return {
        "id": record.id,
        "project": record.project,
        "name": record.name,
        "job_type": record.job_type,
        "state": state,
        "created": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="seconds"),
    }


def _run(
    store: AbstractContextManager[str], data: Path, realm: str, work: Callable[[Keys], Awaitable[Result]]
) -> Result:
    with clear_errors(), store as url:
        return asyncio.run(_with_keys(url, data, realm, work))


async def _with_keys(url: str, data: Path, realm: str, work: Callable[[Keys], Awaitable[Result]]) -> Result:
    connection = Store(url, deadline=5.0, realm=realm)
    try:
        await connection.check()
        pepper = load_pepper(data, os.environ.get(VARIABLE))
        await check_pepper(connection, pepper, realm)
        return await work(Keys(connection, pepper, realm))
    except (UnknownKey, LedgerUnavailable) as error:
        raise Fatal(str(error)) from error
    finally:
        await connection.aclose()
