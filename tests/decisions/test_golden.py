"""Decisions as they stand in the golden files: which route, at what price, or what the client is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.decisions.golden import EXPECT, cases, files, read, rewritten

LEAST = 300


@pytest.mark.parametrize("file", files(), ids=[file.stem for file in files()])
def test_decisions_are_those_that_are_written_down(file: Path) -> None:
    """Every case comes to what the file says; `python -m tests.decisions.golden` rewrites what is meant to change."""
    from_memory = {name: case for name, case, _ in cases(file)}

    assert len(from_memory) == len(read(file)["cases"]), "two cases have one name"
    assert rewritten(file).splitlines() == file.read_text().splitlines()


def test_there_are_enough_of_them_to_read_as_documentation() -> None:
    """At least three hundred decisions are written down, each with what it comes to."""
    written = [case for file in files() for case in read(file)["cases"]]

    assert len(written) >= LEAST
    assert all(EXPECT in case for case in written)
