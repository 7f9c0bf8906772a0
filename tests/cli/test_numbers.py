"""Numbers on the command line: what is no number, or one that nobody can mean, is told before anything is done."""

from __future__ import annotations

import click
import pytest

from gateway.ledger.keys import LONGEST_GRACE
from tests.cli.command import commands, within

FLOATS = [
    (name, option)
    for name, command in commands()
    for option in command.params
    if isinstance(option.type, click.types.FloatParamType)
]
ABSURD = ["nan", "-nan", "inf", "-inf", "1e300"]


def test_there_are_such_options() -> None:
    """They are found at all, so that the test below says something."""
    assert {name for name, _ in FLOATS} == {"serve", "keys rotate", "sandbox"}


@pytest.mark.parametrize("text", ABSURD)
@pytest.mark.parametrize(("name", "option"), FLOATS, ids=lambda each: getattr(each, "name", each))
def test_no_option_takes_what_is_no_number(name: str, option: click.Parameter, text: str) -> None:
    """`nan`, infinity and 1e300 end every command with status 2 and the option's name, also from a variable."""
    done = within(*name.split(), f"{option.opts[0]}={text}", *["key_x"] * (name == "keys rotate"))
    assert done.exit_code == 2
    assert f"Invalid value for '{option.opts[0]}'" in done.stderr


@pytest.mark.parametrize("text", ["soon", "5 m", "1y", "-5m", "999999d"])
def test_what_is_no_time_is_told_in_plain_words(text: str) -> None:
    """Neither the type's name in the program nor another option's bounds are of any use."""
    said = within("keys", "rotate", "key_x", f"--grace={text}").stderr
    assert "not a number of seconds such as 30, nor a time such as 30s" in said or "is not in the range" in said
    assert "'abc' is not a valid whole number" in within("demo", "--port", "abc").stderr


@pytest.mark.parametrize(("text", "seconds"), [("30", 30), ("0.5", 0.5), ("30s", 30), ("5m", 300), ("1d", 86_400)])
def test_seconds_are_written_as_other_times_are_too(text: str, seconds: float) -> None:
    """A number alone is one of seconds."""
    for name, option in FLOATS:
        if option.name == "grace":
            assert option.type_cast_value(click.Context(click.Command(name)), text) == seconds


def test_a_replaced_key_may_stay_as_long_as_in_the_console() -> None:
    """Both ways to rotate a key have one bound."""
    (grace,) = (option for name, option in FLOATS if name == "keys rotate")
    assert grace.type_cast_value(click.Context(click.Command("x")), str(LONGEST_GRACE)) == LONGEST_GRACE
    assert within("keys", "rotate", "key_x", "--grace", f"{LONGEST_GRACE + 1}").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ledger", "adjust", "req_x", "--reason", "r", "--cost", "999999999999"], "no request costs more than 450000"),
        (["ledger", "adjust", "req_x", "--reason", "r", "--cost", "450000.000000001"], "no request costs more than"),
        (["ledger", "adjust", "req_x", "--reason", "r", "--cost", "nan"], "is not a decimal amount"),
        (["spend", "--since", "0001-01-01"], "years 1970 to 9998"),
        (["spend", "--until", "9999-12-31T23:59:59-01:00"], "years 1970 to 9998"),
        (["spend", "--since", "100000d"], "years 1970 to 9998"),
        (["replay", "--policy", "{policy}", "--since", "9999-12-31"], "years 1970 to 9998"),
        (["reconcile", "{invoice}", "--provider", "main", "--edge", "999999d"], "--edge must be at most 366d"),
    ],
)
def test_money_and_times_have_bounds(arguments: list[str], told: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Amounts that no request can cost and times that nothing was booked at end with status 2."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "invoice.csv").write_text("request_id,cost_usd,timestamp\n")
    places = {"invoice": folder / "invoice.csv", "policy": folder}
    done = within(*(word.format(**places) for word in arguments), "--data", str(folder))
    assert (done.exit_code, told in done.stderr) == (2, True), done.output


@pytest.mark.parametrize("time", ["0001-01-01", "9999-12-31", "1969-12-31T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_an_invoice_of_another_age_is_told_by_its_line(time: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A time at which nothing can have been billed is a bad row, not a traceback."""
    invoice = tmp_path_factory.mktemp("given") / "invoice.csv"
    invoice.write_text(f"request_id,cost_usd,timestamp\nx,1,{time}\n")
    done = within("reconcile", str(invoice), "--provider", "main", "--data", str(invoice.parent))
    assert (done.exit_code, f"{invoice}:2: timestamp: '{time}': a time must lie" in done.stderr) == (1, True)
