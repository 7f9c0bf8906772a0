"""`image-gateway keys`: who may call. A key is shown once, when it is made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import click
from rich.table import Table

from gateway.cli.key_access import check_label, check_name, read_keys, with_keys
from gateway.cli.keys_import import import_keys
from gateway.cli.numbers import Seconds
from gateway.cli.options import (
    Fatal,
    check_output,
    example,
    format_option,
    json_option,
    os_words,
    store_options,
    wants_json,
)
from gateway.cli.output import drop_output
from gateway.cli.running import existing_store, new_or_existing_store, store_to_read
from gateway.cli.tables import show
from gateway.ledger.keys import FOR_GOOD, LONGEST_GRACE, KeyRecord, Keys, NewKey
from gateway.ports import LedgerUnavailable


def _policy_name(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    return _checked(check_name, value) if value is not None else None


def _label(_context: click.Context, _option: click.Parameter, value: str) -> str:
    return _checked(check_label, value)


def _checked(check: Callable[[str], str], value: str) -> str:
    try:
        return check(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.group()
def keys() -> None:
    """Create, import, list, revoke and rotate API keys."""


@keys.command(epilog=example("keys create --project shop --name web"))
@click.option(
    "--project", required=True, callback=_policy_name, help="The project whose money and quotas the key draws on."
)
@click.option("--name", default="", callback=_label, help="A name to tell it by, such as the service that uses it.")
@click.option("--job-type", default=None, callback=_policy_name, help="The job type of requests that name none.")
@json_option
@store_options
def create(project: str, name: str, job_type: str | None, store: str, data: Path, realm: str) -> None:
    """Make a key and print it, alone, on stdout."""

    async def work(keys: Keys) -> None:
        made = await keys.create(project, name=name, job_type=job_type)
        await _show(keys, made, f"key {made.record.id} for project {project}; it is shown this once")

    check_output("the key")
    with_keys(new_or_existing_store(store, data), data, realm, work)


@keys.command("list", epilog=example("keys list", "keys list --json"))
@format_option("table", "json", envvar="IMAGE_GATEWAY_KEYS_LIST_FORMAT")
@store_options
def list_keys(form: str, store: str, data: Path, realm: str) -> None:
    """List every key ever made; the keys themselves are not known."""
    records, now = read_keys(store_to_read(store, data), realm)
    rows = [record.shown(now) for record in records]
    if form == "json":
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table()
    for name in ("id", "project", "name", "job_type", "state", "created", "ends"):
        table.add_column(name, overflow="fold", no_wrap=name not in ("project", "name", "job_type"))
    for row in rows:
        cells = row | {"ends": row["revoked"] or row["expires"]}
        table.add_row(*(cells[str(column.header)] or "-" for column in table.columns))
    show(table)


@keys.command(short_help="End a key.", epilog=example("keys revoke key_4fQzX0aB1cD2"))
@click.argument("key_id")
@json_option
@store_options
def revoke(key_id: str, store: str, data: Path, realm: str) -> None:
    """End a key; within 5 seconds no gateway accepts it any more. Running requests finish."""
    if wants_json():
        check_output("what was done")
    record = with_keys(existing_store(store, data), data, realm, lambda keys: keys.revoke(key_id))
    click.echo(f"{record.state(FOR_GOOD)} {record.id} of project {record.project}", err=True)
    if wants_json():
        click.echo(json.dumps(record.shown(FOR_GOOD), indent=2))


@keys.command(epilog=example("keys rotate key_4fQzX0aB1cD2 --grace 3600"))
@click.argument("key_id")
@click.option(
    "--grace",
    default=0.0,
    show_default=True,
    type=Seconds(0, LONGEST_GRACE),
    help="Seconds the old key stays good.",
)
@json_option
@store_options
def rotate(key_id: str, grace: float, store: str, data: Path, realm: str) -> None:
    """Make a new key in place of one, and print it, alone, on stdout.

    It has an id of its own: a budget or quota of policy with the old one as its `key` has to name the new one too.
    """

    async def work(keys: Keys) -> None:
        old = next((record for record in await keys.list() if record.id == key_id), None)
        ends, made = _end_of(old, grace, await keys.now()), await keys.rotate(key_id, grace=grace)
        words = (
            f"key {made.record.id} replaces {key_id}, which {ends}; it is shown this once\n"
            f"where policy limits `key: {key_id}`, say the same of {made.record.id}: nothing does that by itself"
        )
        await _show(keys, made, words, besides=f", and {key_id} {ends}")

    check_output("the key")
    with_keys(existing_store(store, data), data, realm, work)


def _end_of(old: KeyRecord | None, grace: float, now: float) -> str:
    """Say when a key ends that is replaced now, by what it was before; whatever the grace, none lives longer for it."""
    if old is not None and not old.live(now):
        return f"has ended already ({old.state(now)})"
    left = grace if old is None or old.expires is None else min(grace, old.expires - now)
    return f"ends in {left:.10g} s" if grace else "ends now"


async def _show(keys: Keys, made: NewKey, words: str, *, besides: str = "") -> None:
    """Print a key, and words on stderr; one that could not be printed is revoked. `besides` is told then too."""
    try:
        click.echo(json.dumps(made.shown(), indent=2) if wants_json() else made.secret)
    except OSError as error:
        drop_output()
        why = f"key {made.record.id} could not be printed: {os_words(error)}"
        try:
            await keys.revoke(made.record.id)
        except LedgerUnavailable as away:
            raise Fatal(f"{why}; it is live and to be revoked: {away}") from error
        raise Fatal(f"{why}; it was revoked{besides}") from error
    click.echo(words, err=True)


keys.add_command(import_keys)
