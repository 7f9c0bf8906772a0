"""Tables show what is in the books, word for word."""

from __future__ import annotations

import pytest
from rich.table import Table

from gateway.cli.tables import show

FIGURES = ("0.004832876", "0.004576876", "0.005557808", "1024x1024")
NAMES = ("cheap/gpt-image-2", "gpt-image-2", "n")
WORDS = ("shop [/eu]", "[red]", "project:art: images", "https://[fd12::5]/hook/[/x]")
FULL, FOLDED = 93, 81
"""Characters of the table below at its full width, and where its names are as narrow as they may be."""


def table() -> Table:
    """One with names that may wrap, and figures that may not."""
    made = Table()
    for name in ("route", "model", "n"):
        made.add_column(name)
    for _ in FIGURES:
        made.add_column("usd", no_wrap=True)
    made.add_row(*NAMES, *FIGURES)
    return made


def shown(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Print it; its width, and the cells of its one row, whose pieces are put together."""
    show(table())
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    width = max(len(line) for line in lines if line.startswith(("│", "└")))
    return width, ["".join(pieces) for pieces in zip(*rows, strict=True)]


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither brackets nor colons are taken for styles or pictures, nor end the command."""
    made = Table("name [b]")
    for word in WORDS:
        made.add_row(word)
    show(made)
    out = capsys.readouterr().out
    assert [word for word in ("name [b]", *WORDS) if word not in out] == []


@pytest.mark.parametrize("columns", [20, 80, FOLDED, 85, FULL, 200])
@pytest.mark.parametrize("term", ["xterm", "dumb", "unknown"])
def test_a_narrow_terminal_wraps_names_and_cuts_nothing(
    columns: int, term: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures stay whole and names readable: where there is no room for that, the terminal wraps whole lines."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")  # a terminal, without one
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", term)
    width, cells = shown(capsys)
    assert cells == [*NAMES, *FIGURES]
    assert width == (FULL if columns < FOLDED else min(columns, FULL))


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_that_does_not_tell_its_width(
    term: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is taken for one of 80 characters, on which nothing is cut either."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", term)
    assert shown(capsys)[1] == [*NAMES, *FIGURES]
