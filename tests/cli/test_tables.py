"""Tables show what is in the books, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from rich.table import Table

from gateway.cli.tables import show, show_fitted

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
