"""Invoices: exact amounts from CSV as providers write it, and every row that cannot be read with its place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.invoice import Invoice, InvoiceError, Match, parse_columns, parse_unit, read_invoice

COLUMNS = {"id": "request_id", "amount": "cost", "time": "at", "model": "model"}


def read(
    text: str, columns: Mapping[str, str] = COLUMNS, *, unit: str = "usd", match: Match = Match.REQUEST
) -> Invoice:
    """Read CSV with the usual columns, or others."""
    return read_invoice(text.splitlines(keepends=True), columns, unit=parse_unit(unit), match=match)


def one(amount: str, at: str = "2026-11-01", unit: str = "usd") -> Invoice:
    """Read an invoice with one row."""
    return read(f'request_id,cost,at,model\nr,"{amount}",{at},m\n', unit=unit)


@pytest.mark.parametrize(
    ("text", "unit", "nano"),
    [
        ("0.05278", "usd", Fraction(52_780_000)),
        ("5.278", "cents", Fraction(52_780_000)),
        ("52780000", "nano", Fraction(52_780_000)),
        ("52780", "micro", Fraction(52_780_000)),
        ("3.4", "1/68", Fraction(50_000_000)),
        ("2.5", "0.01", Fraction(25_000_000)),
        ("5.2e-05", "usd", Fraction(52_000)),
        ("-0.01", "usd", Fraction(-10_000_000)),
        ("0.003835980000000000000000000000", "usd", Fraction(3_835_980)),
        ("0.0000000001", "usd", Fraction(1, 10)),
        (" .5 ", "usd", Fraction(500_000_000)),
    ],
)
def test_amounts_are_exact(text: str, unit: str, nano: Fraction) -> None:
    """However many decimals and in whatever unit: no amount is rounded when it is read."""
    assert one(text, unit=unit).rows[0].amount == nano


@pytest.mark.parametrize(
    "text", ["", "free", "1,000.00", "$5", "nan", "inf", "0x10", "1_000", "٣", "1e999", "99999999"]
)
def test_what_is_no_amount_is_a_bad_row(text: str) -> None:
    """Anything but a plain decimal within what an entry holds is told with line, column and value."""
    found = one(text)
    assert found.rows == []
    assert [(bad.line, bad.column) for bad in found.bad] == [(2, "cost")]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T10:00:00Z", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("2026-11-01T10:00:00+02:00", datetime(2026, 11, 1, 8, tzinfo=UTC)),
        ("2026-11-01 10:00:00", datetime(2026, 11, 1, 10, tzinfo=UTC)),
        ("1790553600", datetime(2026, 9, 28, tzinfo=UTC)),
        ("1790553600.5", datetime(2026, 9, 28, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("1790553600000", datetime(2026, 9, 28, tzinfo=UTC)),
    ],
)
def test_times_are_iso_or_unix(text: str, moment: datetime) -> None:
    """Days, ISO 8601 with and without a zone, Unix seconds and milliseconds."""
    assert one("1", text).rows[0].time == moment


@pytest.mark.parametrize(
    "text", ["", "11/01/2026", "yesterday", "12345", "2026-02-30", "0001-01-01", "9999-12-31", "1969-12-31T00:00:00Z"]
)
def test_what_is_no_time_is_a_bad_row(text: str) -> None:
    """A day and a month that could be either way round are not guessed."""
    assert [bad.column for bad in one("1", text).bad] == ["at"]


def test_every_bad_row_is_told_and_the_others_are_read() -> None:
    """Rows too short, without a request, in another currency, or with unprintable text; each with its own line."""
    columns = {"id": "id", "amount": "cost", "currency": "currency", "images": "n"}
    text = 'id,cost,currency,n\na,1,usd,1\nb,1\n,1,usd,1\n"c",1,eur,1\n"d\x00",1,usd,1\ne,1,USD,x\nf,2,USD,\n'
    found = read(text, columns)
    assert [row.id for row in found.rows] == ["a", "f"]
    assert [(bad.line, bad.column) for bad in found.bad] == [(3, ""), (4, "id"), (5, "currency"), (6, "id"), (7, "n")]


def test_lines_are_those_of_the_file() -> None:
    """A quoted cell over several lines does not shift the lines that are named."""
    found = read('request_id,cost,at,model\nr,1,2026-11-01,"m\nm"\nr,x,2026-11-01,m\n')
    assert [bad.line for bad in found.bad] == [3, 4]


def test_rows_that_say_that_nothing_was_billed_are_counted() -> None:
    """Cost exports have a row for each day without cost; it is neither billed nor bad. Blank lines are nothing."""
    text = "at,cost,model\n2026-11-01,,\n\n2026-11-02,1.5,m\n2026-11-03,,m\n"
    found = read(text, {"amount": "cost", "time": "at", "model": "model"}, match=Match.DAY)
    assert (len(found.rows), len(found.unbilled), [bad.line for bad in found.bad]) == (1, 1, [5])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        ("request_id,costs,at,model\n", "no column 'cost' for amount.*did you mean 'costs'"),
        ("request_id,cost,cost,at,model\n", "'cost' is there twice"),
        ('request_id,cost,at,model\n"a"b,1,2026-11-01,m\n', "line 2: not CSV"),
        ('request_id,cost,at,model\n"a,1,2026-11-01,m\n', "not CSV"),
    ],
)
def test_a_file_that_is_no_such_invoice_is_refused(text: str, words: str) -> None:
    """No head, a head without the column, or no CSV at all: one sentence that says what is there."""
    with pytest.raises(InvoiceError, match=words):
        read(text)


def test_needed_columns_depend_on_what_is_matched() -> None:
    """Requests need an id, days a time; an amount is always needed."""
    with pytest.raises(InvoiceError, match="id or request"):
        read("cost\n1\n", {"amount": "cost"})
    with pytest.raises(InvoiceError, match="for time"):
        read("cost\n1\n", {"amount": "cost"}, match=Match.DAY)
    with pytest.raises(InvoiceError, match="for amount"):
        read("id\na\n", {"id": "id"})


def test_columns_are_named_by_role() -> None:
    """`role=column`, comma-separated, spaces allowed in a column's name."""
    assert parse_columns("id=Request ID, amount=cost") == {"id": "Request ID", "amount": "cost"}


@pytest.mark.parametrize("text", ["", "id", "id=", "=x", "cost=x", "id=a,id=b", "id=a,,amount=b"])
def test_other_roles_are_refused(text: str) -> None:
    """An unknown role or half a pair is told, not ignored."""
    with pytest.raises(InvoiceError):
        parse_columns(text)


@pytest.mark.parametrize("text", ["eur", "0", "0.0", "1/0", "-1", "1e3", ""])
def test_other_units_are_refused(text: str) -> None:
    """A unit is a word that is known or a positive number."""
    with pytest.raises(InvoiceError, match="unit of money"):
        parse_unit(text)


def test_the_cost_export_in_the_documents_is_read() -> None:
    """The example and the columns that stand beside it fit each other."""
    said = (Path(__file__).parents[2] / "docs" / "reconciliation.md").read_text()
    text, named = re.search(r"```csv\n(.*?)```", said, re.DOTALL), re.search(r"--columns (time=start_time\S+)", said)
    assert text is not None
    assert named is not None
    found = read(text[1], parse_columns(named[1]), match=Match.DAY)
    assert (found.bad, len(found.unbilled)) == ([], 1)
    assert [(str(row.time), row.model) for row in found.rows] == [
        ("2026-11-01 00:00:00+00:00", "gpt-image-2 text, input"),
        ("2026-11-01 00:00:00+00:00", "gpt-image-2 image, output"),
    ]


cells = st.text(st.characters(exclude_characters="\r\n\x00"), max_size=12)


@given(st.lists(st.lists(cells, min_size=1, max_size=5), max_size=8))
def test_no_text_breaks_the_reader(rows: list[list[str]]) -> None:
    """Whatever a file says, it is rows, bad rows, or one clear refusal."""
    text = "request_id,cost,at,model\n" + "".join(",".join(row) + "\n" for row in rows)
    try:
        found = read(text)
    except InvoiceError:
        return
    assert all(row.id for row in found.rows)
