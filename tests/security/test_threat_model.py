"""What docs/security.md claims is held by tests that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`(tests/[a-z0-9_/]+\.py)::([a-z0-9_]+)`", TEXT)


def names_in(path: Path) -> set[str]:
    """The names of a file's tests."""
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in found if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    """File and function, each as it is written."""
    missing = [
        f"{file}::{name}" for file, name in NAMED if not (ROOT / file).exists() or name not in names_in(ROOT / file)
    ]
    assert len(NAMED) > 40
    assert not missing


def test_every_claim_names_a_test() -> None:
    """Each row of what somebody tries ends with what holds it."""
    actors = TEXT.partition("## Actors")[2].partition("## Proxies")[0]
    rows = [line for line in actors.splitlines() if line.startswith("| ") and not line.startswith("| it tries")]
    assert len(rows) > 25
    assert not [row for row in rows if "::test_" not in row]
