"""Every mistake that a policy can hold, and the line that it is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.golden import HERE, cases, printed, split

CASES = cases()


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_mistakes_are_named_with_their_place(case: Path, tmp_path: Path) -> None:
    """Each golden policy is answered with exactly its lines: all problems at once, sorted, with how to mend them."""
    given, expected = split(case)

    assert printed(given, tmp_path) == expected


def test_there_are_enough_mistakes() -> None:
    """The corpus covers at least two hundred mistakes, none of its files by accident empty."""
    lines = [split(case)[1] for case in CASES]

    assert all(lines)
    assert sum(map(len, lines)) > 200
    assert len(list((HERE / "mistakes").glob("*.yaml"))) >= 60
