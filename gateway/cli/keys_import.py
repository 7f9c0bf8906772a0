"""`image-gateway keys import`: many keys from a file, each whole or not at all, as often as need be."""

from __future__ import annotations

import csv
import json
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import click

from gateway.cli.key_access import check_label, check_name, with_keys
from gateway.cli.options import Fatal, check_output, example, json_option, store_options, wants_json
from gateway.cli.progress import quiet_option, watched
from gateway.cli.running import clear_errors, new_or_existing_store
from gateway.domain.key_rows import KeyFileError, KeyRow, read_key_rows
from gateway.ledger.key_format import well_formed
from gateway.ledger.keys import KeyRecord, Keys, NewKey, drafted
from gateway.ledger.progress import Meter

COLUMNS = ("project", "name", "job_type", "id", "state", "key")
MOST_BAD = 50
"""Bad rows that are shown; a file with more has one fault, not many."""


class _Rows:
    """Rows on stdout, each as soon as it is known: CSV, or the elements of a JSON list."""

    def __init__(self, *, as_json: bool) -> None:
        self._json = as_json
        self._count = 0
        self._csv = csv.writer(sys.stdout, lineterminator="\n")

    def __enter__(self) -> Self:
        if self._json:
            sys.stdout.write("[")
        else:
            self._csv.writerow(COLUMNS)
        return self

    def __exit__(self, *_: object) -> None:
        if self._json:
            sys.stdout.write("\n]\n" if self._count else "]\n")
        sys.stdout.flush()

    def write(self, record: KeyRecord, state: str, secret: str | None = None) -> None:
        """Write a row, and have it written before returning."""
        cells = (record.project, record.name, record.job_type, record.id, state, secret)
        if self._json:
            row = json.dumps(dict(zip(COLUMNS, cells, strict=True)))
            sys.stdout.write(f"{',' if self._count else ''}\n  {row}")
        else:
            self._csv.writerow(cells)
        sys.stdout.flush()
        self._count += 1


@click.command("import", short_help="Make the keys of a CSV file.", epilog=example("keys import teams.csv > made.csv"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@json_option
@quiet_option
@store_options
def import_keys(file: str, store: str, data: Path, realm: str) -> None:
    """Make the keys of FILE, a CSV file with the columns project, name, job_type and key; `-` reads it from stdin.

    A row with a key takes that one in, such as from a list you kept; one without gets a new one, which is printed this
    once. Repeat it as often as you like: a key that is there, or a live one with that project and name, is left alone.
    """
    check_output("the key")
    with clear_errors(), click.open_file(file, encoding="utf-8-sig") as lines:
        wanted = _read("<stdin>" if file == "-" else file, lines)
    left = "keys that were made stay, and this output alone has them; run it again, into another, for the others"

    async def work(keys: Keys) -> None:
        with _Rows(as_json=wants_json()) as rows:
            await _import(keys, wanted, rows)

    with watched(left, prints=True):
        with_keys(new_or_existing_store(store, data), data, realm, work)


def _read(name: str, lines: Iterable[str]) -> Sequence[KeyRow]:
    """Read a file; every row that cannot be read is told, and nothing is made then."""
    checks = {"project": check_name, "job_type": check_name, "name": check_label, "key": _check_key}
    try:
        rows, bad = read_key_rows(lines, checks)
    except KeyFileError as error:
        raise Fatal(f"{name}: {error}") from error
    except UnicodeDecodeError as error:
        raise Fatal(f"{name}: is not UTF-8 text") from error
    for each in bad[:MOST_BAD]:
        click.echo(f"{name}:{each.line}: {each.message}", err=True)
    if bad:
        raise Fatal(f"{name}: {len(bad)} of its rows cannot be read; nothing was made")
    return rows


def _check_key(secret: str) -> None:
    if not well_formed(secret):
        raise ValueError("is no key of a gateway, or was copied with an error")


async def _import(keys: Keys, wanted: Sequence[KeyRow], rows: _Rows) -> None:
    """Make each. A new secret is shown before it is good, so that none is ever good that nobody was shown."""
    now, began = await keys.now(), time.monotonic()
    known = {(record.project, record.name): record for record in await keys.list() if record.live(now)}
    meter = Meter("keys", len(wanted), often=20)
    for row in wanted:
        at = now + time.monotonic() - began
        draft = drafted(row.project, now=at, name=row.name, job_type=row.job_type, secret=row.key or None)
        if row.key:
            rows.write(*await _taken(keys, draft, row))
        elif there := known.get((row.project, row.name)):
            rows.write(there, "there")
        else:
            rows.write(draft.record, "made", draft.secret)
            await keys.put(draft)
        meter.add()


async def _taken(keys: Keys, draft: NewKey, row: KeyRow) -> tuple[KeyRecord, str]:
    record = await keys.put(draft)
    if record.project != row.project:
        raise Fatal(f"line {row.line}: the key is {record.id}, of project {record.project}; it stays what it is")
    if record.revoked is not None:
        return record, "revoked"
    return record, "taken" if record.id == draft.record.id else "there"
