"""The reference in docs/policy.md says what the reader takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config.schema import EVERY_MAP, Keys

REFERENCE = (Path(__file__).parents[2] / "docs" / "policy.md").read_text()
SECTIONS = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^#|\Z)", REFERENCE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize(("name", "keys"), EVERY_MAP.items(), ids=EVERY_MAP)
def test_each_key_is_documented_where_it_belongs(name: str, keys: Keys) -> None:
    """Each map has a section whose table lists exactly the keys that it takes, in the same order."""
    assert tuple(re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE)) == keys.known


def test_no_section_is_about_a_map_that_does_not_exist() -> None:
    """The reference documents no map that the reader does not know."""
    assert set(SECTIONS) == set(EVERY_MAP)
