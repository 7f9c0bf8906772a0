"""Tables on the terminal."""

from __future__ import annotations

import os

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

WIDEST = 1000
"""Characters of a table; it is as wide as its cells."""
NARROWEST = 8
"""Characters of a column that wraps; in fewer no name can be read."""


def _console(width: int | None = None) -> Console:
    """One that shows names, and what others sent, as they are: neither `[red]` nor `:art:` means anything there."""
    return Console(width=width, markup=False, emoji=False)


def show(table: Table) -> None:
    """Print a table at its full width: a figure or a name cut off is worse than a line that wraps."""
    _console(WIDEST).print(table)


def show_fitted(table: Table) -> None:
    """Print a table no wider than the terminal, wrapping its cells; at its full width where there is no terminal.

    Where its figures leave too little of the width for names, it is wider: the terminal wraps its lines then.
    """
    console = _console()
    if not (console.is_terminal or "COLUMNS" in os.environ):
        show(table)
        return
    least = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    for column in table.columns:
        column.overflow = "fold"
        if not column.no_wrap:
            least -= max(max(cell_len(str(cell)) for cell in (column.header, *column.cells)) - NARROWEST, 0)
    _console(max(console.width, least)).print(table)
