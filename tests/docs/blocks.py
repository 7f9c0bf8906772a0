"""Fenced blocks of the documents, and the marks that say what a test does with each.

A mark is an HTML comment on the line before a fence, so that a reader never sees it. None starts what the page does not
say: a page with a policy of its own says how to serve it.

| mark | what happens |
|---|---|
| `<!-- run -->` | it is executed, and must end with 0 |
| `<!-- run: with PACKAGE -->` | of Python: with this package installed, in a slow test |
| `<!-- run: project NAME -->` | from here on, `igw_…` is a key of this project |
| `<!-- run: until 8080 -->` | of sh: it is started, and runs on once something listens on this port |
| `<!-- prints -->` | the last block that was executed printed this; `…` stands for anything |
| `<!-- file: NAME -->` | it is written to a file of the page's folder |
| `<!-- part -->` | of YAML: may stand in a policy beside what it leaves out; only its keys are checked |
| `<!-- not run: REASON -->` | nothing |
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
MARKS = ("run", "prints", "file", "part", "not run")
CODE = ("sh", "python", "js", "yaml", "json", "csv")
"""Languages of which each block of a tutorial or how-to page has a mark."""

_MARK = re.compile(r"<!-- (?P<verb>[a-z ]+?)(?:: (?P<words>.+?))? -->")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str
    verb: str
    words: str

    def __str__(self) -> str:
        return f"{os.path.relpath(self.page, ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page in its order, with its mark; an unmarked one has an empty verb."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    verb = words = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if mark := _MARK.fullmatch(line.strip()):
            verb, words = mark["verb"], mark["words"] or ""
        elif fence := _FENCE.match(line):
            start, indent = number, len(fence["indent"])
            while lines[number].strip() != "```":
                number += 1
            text = "".join(f"{each[indent:]}\n" for each in lines[start:number])
            number += 1
            found.append(Block(page, start, fence["language"], text, verb, words))
            verb = words = ""
        elif line.strip():
            assert not verb, f"{page}:{number}: a mark without a block"
    return found


def pages() -> list[Path]:
    """Every page of the documents."""
    return sorted(DOCS.rglob("*.md"))


def guides() -> list[Path]:
    """The tutorial and the how-to pages."""
    return [DOCS / "tutorial.md", *sorted((DOCS / "how-to").glob("*.md"))]
