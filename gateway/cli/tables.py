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
HEIGHT = 25
"""Lines; none is counted, but without them a console of TERM=dumb heeds no width."""


def _console(width: int | None = None) -> Console:
    """One that shows names, and what others sent, as they are: neither `[red]` nor `:art:` means anything there."""
    return Console(width=width, height=HEIGHT, markup=False, emoji=False)


def show(table: Table) -> None:
    """Print a table whole: a figure or a name cut off is worse than a line that wraps.

    On a terminal its cells wrap, but for those of `no_wrap` columns, if it fits so. Where their figures leave too
    little of the width for names, it has its full width, and the terminal wraps its lines.
    """
    console = _console()
    least = Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum
    for column in table.columns:
        column.overflow = "fold"
        if not column.no_wrap:
            least -= max(max(cell_len(str(cell)) for cell in (column.header, *column.cells)) - NARROWEST, 0)
    fits = (console.is_terminal or "COLUMNS" in os.environ) and least <= console.width
    _console(console.width if fits else WIDEST).print(table)
