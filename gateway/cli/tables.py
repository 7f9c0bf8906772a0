"""Tables on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table


def show(table: Table) -> None:
    """Print a table at its full width: a figure or a name cut off is worse than a line that wraps."""
    console = Console()
    wide = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    Console(width=max(console.width, wide)).print(table)
