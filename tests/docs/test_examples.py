"""What the pages tell a reader to type works, as it stands there, and prints what they say."""

from __future__ import annotations

import re
import sys
from datetime import date
from pathlib import Path

import pytest

from gateway.config.load import check_policy
from tests.docs.blocks import CODE, DOCS, MARKS, ROOT, Block, blocks, guides, pages
from tests.docs.packages import LANGCHAIN, NODE, interpreter, modules
from tests.docs.running import ACCOUNTS, Reader, reader
from tests.e2e.stack import Stack

TODAY = date(2026, 11, 21)

SENDS = re.compile(r"\bcurl\b(?:[^\n]|\\\n)*\s(?:-d|-F|--json|--data\S*|--form)\b")
"""A command of curl with a body."""


def named(page: Path) -> str:
    """A page as a test's id."""
    return str(page.relative_to(DOCS))


def needs(page: Path) -> set[str]:
    """What has to be installed for a page besides what the suite has anyway."""
    run = [block for block in blocks(page) if block.verb == "run"]
    found = {block.words.removeprefix("with ") for block in run if block.words.startswith("with ")}
    return found | ({NODE} if any(block.language == "js" for block in run) else set())


def serves(page: Path) -> bool:
    """Whether a page starts a gateway, so that it needs none besides."""
    return any(block.verb == "run" and block.words == "until 8080" for block in blocks(page))


RUNNABLE = [page for page in pages() if any(block.verb in ("run", "file") for block in blocks(page))]
QUICK = [page for page in RUNNABLE if not needs(page) and not serves(page)]
SERVED = [page for page in RUNNABLE if not needs(page) and serves(page) and page.name != "tutorial.md"]
FOREIGN = [page for page in RUNNABLE if needs(page)]


def follow(page: Path, one: Reader) -> None:
    """Type a page from its first line to its last."""
    for block in blocks(page):
        one.follow(block)


@pytest.mark.parametrize("page", guides(), ids=named)
def test_every_block_has_a_mark(page: Path) -> None:
    """A guide types nothing that is not run, but for what says why it is not."""
    for block in blocks(page):
        assert block.verb in (*MARKS, ""), block
        assert block.verb or block.language not in CODE, f"{block} is not marked"
        assert block.words or block.verb not in ("not run", "file"), block


@pytest.mark.parametrize("page", pages(), ids=named)
def test_every_request_with_a_body_has_a_mark(page: Path) -> None:
    """No page types a curl line that sends something without being run, but for what says why it is not."""
    for block in blocks(page):
        assert block.verb or not SENDS.search(block.text), f"{block} is not marked"


def test_the_tutorial(tmp_path: Path) -> None:
    """Every command of the tutorial, in its order, from an empty folder to a team with a budget."""
    with reader(tmp_path) as one:
        follow(DOCS / "tutorial.md", one)
        spent = one.printed.split()

    # Its last block prints the provider's total and the ledger's.
    assert len(spent) == 2
    assert float(spent[0]) == float(spent[1]) > 0.5


@pytest.mark.parametrize("page", QUICK, ids=named)
def test_examples(page: Path, tmp_path: Path, stack: Stack) -> None:
    """What a page types runs against a gateway with simulated providers."""
    with reader(tmp_path, stack=stack) as one:
        follow(page, one)


@pytest.mark.slow
@pytest.mark.parametrize("page", SERVED, ids=named)
def test_examples_with_a_policy(page: Path, tmp_path: Path) -> None:
    """A page with a policy of its own says all that it takes: provider, gateway and key are started and made by it."""
    with reader(tmp_path) as one:
        follow(page, one)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", FOREIGN, ids=named)
def test_examples_with_packages(page: Path, tmp_path: Path, stack: Stack) -> None:
    """What a page types for other people's libraries runs with these, taken from their registries once."""
    packages = {each: modules() if each == NODE else interpreter(each) for each in needs(page)}
    with reader(tmp_path, stack=stack, packages=packages) as one:
        follow(page, one)


def policies(page: Path) -> dict[str, list[Block]]:
    """The policy files that a page writes, by folder, its tests left out."""
    found: dict[str, list[Block]] = {}
    for block in blocks(page):
        file = Path(block.words)
        if block.verb == "file" and file.suffix == ".yaml" and file.parent.name != "tests":
            found.setdefault(str(file.parent), []).append(block)
    return found


@pytest.mark.parametrize("page", [page for page in RUNNABLE if policies(page)], ids=named)
def test_policies_check(page: Path, tmp_path: Path) -> None:
    """Every policy of a page is accepted, without a problem or a warning."""
    for folder, written in policies(page).items():
        directory = tmp_path / folder
        directory.mkdir()
        for block in written:
            (directory / Path(block.words).name).write_text(block.text)
        loaded = check_policy(directory, dict.fromkeys(ACCOUNTS, "sk-test"), TODAY)
        assert loaded.policy is not None, [str(problem) for problem in loaded.problems]
        assert [str(warning) for warning in loaded.warnings] == []


PARTS = [block for page in pages() for block in blocks(page) if block.verb == "part"]


@pytest.mark.parametrize("block", PARTS, ids=str)
def test_parts_of_policies_check(block: Block, tmp_path: Path) -> None:
    """A part of a policy has no mistake but what it leaves to the rest: the names it refers to."""
    (tmp_path / "part.yaml").write_text(block.text)
    loaded = check_policy(tmp_path, dict.fromkeys(ACCOUNTS, "sk-test"), TODAY)
    told = [str(problem) for problem in loaded.problems]
    left = [each for each in told if not re.search(r": unknown (?:route|job type|provider) ", each)]

    assert left == []


@pytest.mark.parametrize(
    "wrong",
    [
        "<!-- run -->\n```sh\nfalse\ntrue\n```",
        "<!-- run -->\n```python\nraise SystemExit(1)\n```",
        "<!-- run -->\n```sh\necho one two\n```\n<!-- prints -->\n```text\none … three\n```",
    ],
    ids=["sh", "python", "prints"],
)
def test_a_page_that_is_wrong_fails(wrong: str, tmp_path: Path) -> None:
    """A command that fails in its middle, a script that does, and an output that is not as said are all found."""
    page = tmp_path / "page.md"
    page.write_text(wrong)
    with reader(tmp_path) as one, pytest.raises(AssertionError, match=r"page\.md"):
        follow(page, one)


@pytest.mark.parametrize("page", guides(), ids=named)
def test_a_guide_says_what_it_speaks_to(page: Path) -> None:
    """A guide whose examples speak to a gateway starts one with its own policy, or names the page that starts one."""
    speaks = any(block.verb == "run" and ":8080" in block.text for block in blocks(page))
    own = any(block.words.startswith("policy/") and block.words.endswith(".yaml") for block in blocks(page))
    clients = DOCS / "how-to" / "python.md"

    assert not speaks or (serves(page) if own else page == clients or "](python.md)" in page.read_text())


FROM_PYTHON = re.compile(r"^(?:from|import) (\w+)", re.MULTILINE)
FROM_JS = re.compile(r'^import .* from "(?!node:)(.+)"', re.MULTILINE)


@pytest.mark.parametrize("page", guides(), ids=named)
def test_a_guide_says_what_to_install(page: Path) -> None:
    """Each library that an example imports is in the page's `pip install` or `npm install`."""
    text = page.read_text()
    python = "".join(block.text for block in blocks(page) if block.verb == "run" and block.language == "python")
    js = "".join(block.text for block in blocks(page) if block.verb == "run" and block.language == "js")
    outside = {name.replace("_", "-") for name in set(FROM_PYTHON.findall(python)) - sys.stdlib_module_names}

    assert outside <= set(" ".join(re.findall(r"`pip install (.+?)`", text)).split())
    assert set(FROM_JS.findall(js)) <= set(" ".join(re.findall(r"`npm install (.+?)`", text)).split())


def test_examples_are_found() -> None:
    """The pages have examples of every kind: a change of their marks that hid them all would show here."""
    assert {named(page) for page in (*QUICK, *SERVED, *FOREIGN)} >= {
        "how-to/python.md",
        "how-to/lanes.md",
        "how-to/node.md",
    }
    assert {LANGCHAIN, NODE} == {each for page in FOREIGN for each in needs(page)}
    assert ROOT.joinpath("mkdocs.yml").exists()
