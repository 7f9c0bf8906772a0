"""Invoices: a provider's bill or cost export as CSV, read exactly; what cannot be read is told with its place."""

from __future__ import annotations

import contextlib
import csv
import difflib
import itertools
import re
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from fractions import Fraction

from gateway.domain.csv_heads import parted_otherwise
from gateway.domain.money import MAX_MICRO, NANO_PER_USD
from gateway.domain.period import OutOfTime, in_time

ROLES = ("id", "request", "amount", "time", "model", "images", "currency")
"""What a column may be: the provider's id of a request, the gateway's own, the amount, …"""

UNITS = {
    "usd": Fraction(1),
    "cents": Fraction(1, 100),
    "micro": Fraction(1, 10**6),
    "nano": Fraction(1, 10**9),
}
LONGEST_CELL = 200

_AMOUNT = re.compile(r"[+-]?(?=\.?[0-9])[0-9]{0,15}(\.[0-9]{0,40})?([eE][+-]?[0-9]{1,2})?", re.ASCII)
_UNIT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)(?:/([1-9][0-9]{0,8}))?", re.ASCII)
_UNIX = re.compile(r"[0-9]{9,10}(?:\.[0-9]{1,9})?|[0-9]{12,13}", re.ASCII)


class InvoiceError(ValueError):
    """The file as a whole cannot be read as an invoice; the message says what is wrong."""


class Match(StrEnum):
    """What rows and entries are matched by: each request by its id, or the sums of each day and model."""

    REQUEST = "request"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an invoice. `amount` is nano-USD, exact, so that sums are rounded once; `cells` is the whole row."""

    line: int
    amount: Fraction
    id: str = ""
    request: str = ""
    time: datetime | None = None
    model: str = ""
    images: int | None = None
    cells: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read: where, in which column, why, and what stands in it."""

    line: int
    column: str
    message: str
    cells: tuple[str, ...] = ()


@dataclass(slots=True)
class Invoice:
    """What was read. `unbilled` is when rows say that nothing was billed."""

    rows: list[Row] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    unbilled: list[datetime] = field(default_factory=list)

    @property
    def unread(self) -> frozenset[str]:
        """Every cell of the rows that cannot be read, where an id may stand."""
        return frozenset(cell.strip() for row in self.bad for cell in row.cells)

    @property
    def times(self) -> list[datetime]:
        """Every moment it speaks of, also those when nothing was billed."""
        return [row.time for row in self.rows if row.time is not None] + self.unbilled


class _BadCell(ValueError):
    def __init__(self, role: str, message: str) -> None:
        super().__init__(message)
        self.role = role


def parse_columns(text: str) -> dict[str, str]:
    """Read `id=request_id,amount=cost_usd` as columns by role; InvoiceError for a role that does not exist."""
    columns: dict[str, str] = {}
    for part in text.split(","):
        role, equals, name = (piece.strip() for piece in part.partition("="))
        if role not in ROLES or not equals or not name:
            raise InvoiceError(f"{part.strip()!r} is not ROLE=COLUMN; a role is one of {', '.join(ROLES)}")
        if role in columns:
            raise InvoiceError(f"two columns for {role}")
        columns[role] = name
    return columns


def parse_unit(text: str) -> Fraction:
    """Read a unit of money as USD, exactly: `usd`, `cents`, `micro`, `nano`, or a number or ratio such as `1/68`."""
    if text in UNITS:
        return UNITS[text]
    match = _UNIT.fullmatch(text)
    if not match or not (unit := Fraction(match[1]) / int(match[2] or 1)):
        raise InvoiceError(f"{text!r} is not a unit of money: {', '.join(UNITS)}, or USD for one, such as 0.01 or 1/68")
    return unit


def read_invoice(lines: Iterable[str], columns: Mapping[str, str], *, unit: Fraction, match: Match) -> Invoice:
    """Read an invoice from lines of CSV with a head; InvoiceError if the head lacks a column that is needed."""
    unread = iter(lines)
    first = next(unread, "")
    if first.lstrip().startswith(("{", "[")):
        raise InvoiceError("is JSON, and CSV is read: a first line that names the columns, then a line for each row")
    reader = csv.reader(itertools.chain([first], unread), strict=True)
    invoice = Invoice()
    try:
        head = [name.strip() for name in next(reader, [])]
        places = _places(head, columns, match)
        for cells in reader:
            if cells:
                _read_row(cells, head, places, invoice, line=reader.line_num, unit=unit)
    except csv.Error as error:
        raise InvoiceError(f"line {reader.line_num}: not CSV: {error}") from error
    return invoice


def _places(head: list[str], columns: Mapping[str, str], match: Match) -> dict[str, int]:
    if not any(head):
        raise InvoiceError("it is empty: the first line must name the columns")
    if otherwise := parted_otherwise(head):
        raise InvoiceError(otherwise)
    needed = [("amount",), ("id", "request")] if match is Match.REQUEST else [("amount",), ("time",)]
    for roles in needed:
        if not columns.keys() & set(roles):
            raise InvoiceError(f"no column is named for {' or '.join(roles)}; name it with --columns {roles[0]}=COLUMN")
    for role, name in columns.items():
        if name not in head:
            near = difflib.get_close_matches(name, head, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvoiceError(f"no column {name!r} for {role}; there are {', '.join(map(repr, head))}{hint}")
        if head.count(name) > 1:
            raise InvoiceError(f"column {name!r} is there twice")
    return {role: head.index(name) for role, name in columns.items()}


def _read_row(
    cells: list[str], head: list[str], places: Mapping[str, int], invoice: Invoice, *, line: int, unit: Fraction
) -> None:
    if len(cells) != len(head):
        message = f"{len(cells)} cells where the head names {len(head)}"
        invoice.bad.append(BadRow(line, "", message, tuple(cells)))
        return
    said = {role: cells[place].strip() for role, place in places.items()}
    if not said["amount"] and not any(said.get(role) for role in ("id", "request", "model")):
        with contextlib.suppress(_BadCell):  # a row of totals has no time
            invoice.unbilled.append(_time(said.get("time", "")))
        return
    try:
        invoice.rows.append(_row(said, tuple(cells), line, unit))
    except _BadCell as error:
        invoice.bad.append(BadRow(line, head[places[error.role]], str(error), tuple(cells)))


def _row(said: Mapping[str, str], cells: tuple[str, ...], line: int, unit: Fraction) -> Row:
    for role, text in said.items():
        if len(text) > LONGEST_CELL or not text.isprintable():
            raise _BadCell(role, f"more than {LONGEST_CELL} characters, or some that cannot be printed")
    if not (said.get("id") or said.get("request")) and ("id" in said or "request" in said):
        raise _BadCell("id" if "id" in said else "request", "names no request")
    if said.get("currency", "usd").lower() not in ("usd", "us$", "$"):
        raise _BadCell("currency", f"{said['currency']!r} is not USD")
    return Row(
        line=line,
        amount=_amount(said["amount"], unit),
        id=said.get("id", ""),
        request=said.get("request", ""),
        time=_time(said["time"]) if "time" in said else None,
        model=said.get("model", ""),
        images=_count(said["images"]) if said.get("images") else None,
        cells=cells,
    )


def _amount(text: str, unit: Fraction) -> Fraction:
    if not _AMOUNT.fullmatch(text):
        raise _BadCell("amount", f"{text!r} is not a decimal amount such as 0.0412")
    amount = Fraction(text) * unit * NANO_PER_USD
    if abs(amount) > MAX_MICRO:
        raise _BadCell("amount", f"{text!r} is more than an entry can hold")
    return amount


def _time(text: str) -> datetime:
    try:
        if _UNIX.fullmatch(text):
            seconds = float(text)
            return datetime.fromtimestamp(
                seconds / 1000 if len(text.partition(".")[0]) > len("1761523200") else seconds, UTC
            )
        return in_time(datetime.fromisoformat(text))
    except OutOfTime as error:
        raise _BadCell("time", f"{text!r}: {error}") from error
    except ValueError as error:
        raise _BadCell("time", f"{text!r} is neither an ISO 8601 time nor Unix seconds") from error


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII):
        raise _BadCell("images", f"{text!r} is not a number of images")
    return int(text)


def parted(rows: Iterable[Row], key: Callable[[Row], Hashable]) -> tuple[list[Row], list[Row]]:
    """Split rows into the first of each and those that say the same again."""
    seen: set[Hashable] = set()
    first: list[Row] = []
    again: list[Row] = []
    for row in rows:
        (again if key(row) in seen else first).append(row)
        seen.add(key(row))
    return first, again
