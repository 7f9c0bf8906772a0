"""The standard streams: what is done where stdout cannot be written, or one of them is not there at all."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path


def open_streams(*, wanted: bool = True) -> None:
    """Have all three of them. What the terminal's encoding lacks is written as an escape.

    A closed stdin is empty. A closed stdout takes nothing where somebody wanted it, so that writing fails as on a full
    disk.
    """
    # The interpreter has None for what a shell closed by `<&-` or `>&-`.
    sys.stdin = sys.stdin or Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - it stays open
    if sys.stdout is None:
        opener = _for_reading if wanted else None
        sys.stdout = open(os.devnull, "w", encoding="utf-8", opener=opener)  # noqa: SIM115 - it stays open
    sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _for_reading(path: str, _flags: int) -> int:
    return os.open(path, os.O_RDONLY)


def is_closed() -> bool:
    """Tell whether stdout is what `open_streams` put in its place; the interpreter's own is named after no file."""
    return getattr(sys.stdout, "name", None) == os.devnull


def drop_output() -> None:
    """Let go of what stdout did not take, else the interpreter would try once more at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
