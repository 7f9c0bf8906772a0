"""Tables show what is in the books, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.table import Table

from gateway.cli.tables import show, show_fitted

FIGURES = ("0.004832876", "0.004576876", "0.005557808", "1024x1024")
WORDS = ("shop [/eu]", "[red]", "project:art: images", "https://[fd12::5]/hook/[/x]")


@pytest.mark.parametrize("shown", [show, show_fitted])
def test_names_are_shown_as_they_are(shown: Callable[[Table], None], capsys: pytest.CaptureFixture[str]) -> None:
    """Neither brackets nor colons are taken for styles or pictures, nor end the command."""
    table = Table("name [b]")
    for word in WORDS:
        table.add_row(word)
    shown(table)
    out = capsys.readouterr().out
    assert [word for word in ("name [b]", *WORDS) if word not in out] == []


@pytest.mark.parametrize("columns", [20, 60, 80, 200])
def test_a_narrow_terminal_wraps_names_and_cuts_nothing(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures stay whole and names readable: where there is no room for that, the table is wider than the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    table, names = Table(), ("cheap/gpt-image-2", "gpt-image-2", "n")
    for name in ("route", "model", "n"):
        table.add_column(name)
    for _ in FIGURES:
        table.add_column("usd", no_wrap=True)
    table.add_row(*names, *FIGURES)
    show_fitted(table)
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert tuple("".join(pieces) for pieces in zip(*rows, strict=True)) == (*names, *FIGURES)
    assert max(map(len, lines)) <= max(columns, 90)
    assert len(rows) <= 3
