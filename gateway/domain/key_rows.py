"""Key rows: a CSV file of keys to be made, one a row, read whole before any of them is made."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from gateway.domain.csv_heads import parted_otherwise

COLUMNS = ("project", "name", "job_type", "key")


class KeyFileError(ValueError):
    """A file that holds no rows of keys; the message says why."""


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key to be made; `key` is its secret where it was made elsewhere, else "". Its `repr` does not show it."""

    line: int
    project: str
    name: str
    job_type: str | None
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, and why."""

    line: int
    message: str


Check = Callable[[str], object]
"""Raises ValueError for a text that cannot be in a column."""


def read_key_rows(lines: Iterable[str], checks: Mapping[str, Check]) -> tuple[list[KeyRow], list[BadRow]]:
    """Return the rows that can be read, and those that cannot; `checks` are by column, for those that are filled.

    KeyFileError if the head does not name the columns.
    """
    reader = csv.DictReader(lines, strict=True, restkey="", restval="")
    rows: list[KeyRow] = []
    bad: list[BadRow] = []
    seen: dict[object, int] = {}
    try:
        _check_head(reader.fieldnames or ())
        for cells in reader:
            try:
                rows.append(_row(reader.line_num, cells, checks, seen))
            except ValueError as error:
                bad.append(BadRow(reader.line_num, str(error)))
    except csv.Error as error:
        # The outer reader counts the lines of whole rows alone.
        raise KeyFileError(f"line {reader.reader.line_num} is no CSV: {error}") from error
    return rows, bad


def _check_head(names: Iterable[str]) -> None:
    given = list(names)
    if otherwise := parted_otherwise(given):
        raise KeyFileError(otherwise)
    unknown = [name for name in given if name not in COLUMNS]
    twice = [name for name in COLUMNS if given.count(name) > 1]
    if "project" not in given or unknown or twice:
        problem = f"column {unknown[0]!r} is unknown" if unknown else "its first line does not name the columns"
        if twice and not unknown:
            problem = f"column {twice[0]!r} is named twice"
        raise KeyFileError(f"{problem}; the first line names some of {','.join(COLUMNS)}, and project")


def _row(line: int, cells: Mapping[str, str], checks: Mapping[str, Check], seen: dict[object, int]) -> KeyRow:
    if "" in cells:
        raise ValueError("more cells than columns")
    row = KeyRow(line, cells["project"], cells.get("name", ""), cells.get("job_type") or None, cells.get("key", ""))
    if not row.project:
        raise ValueError("project is empty")
    for column, check in checks.items():
        if text := cells.get(column):
            try:
                check(text)
            except ValueError as error:
                raise ValueError(f"{column}: {error}") from error
    if not row.key and not row.name:
        raise ValueError("a row without a key needs a name, by which a repeated import knows it again")
    identity = row.key or (row.project, row.name)
    if identity in seen:
        raise ValueError(f"the same {'key' if row.key else 'project and name'} as in line {seen[identity]}")
    seen[identity] = line
    return row
