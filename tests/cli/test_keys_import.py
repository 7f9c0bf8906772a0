"""Keys in bulk: each row whole or not at all, the same again as often as it is run."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from gateway.ledger.key_format import new_key
from tests.cli.command import within


class Import:
    """`keys import` of a text, in a realm of the test's own."""

    def __init__(self, server: str, realm: str, data: Path) -> None:
        self._place = ("--store", server, "--realm", realm, "--data", str(data))

    def __call__(self, text: str, status: int = 0) -> list[dict[str, str]]:
        """Import, and return the rows of stdout."""
        done = within("keys", "import", "-", *self._place, input=text)
        assert done.exit_code == status, done.stderr
        return list(csv.DictReader(io.StringIO(done.stdout)))

    def refused(self, text: str) -> list[str]:
        """Import what cannot be; returns the lines of stderr."""
        done = within("keys", "import", "-", *self._place, input=text)
        assert (done.exit_code, done.stdout.count("\n") < 2) == (1, True)  # no row, and the head if it began
        return done.stderr.splitlines()

    def listed(self) -> list[dict[str, str]]:
        """What `keys list` knows."""
        found: list[dict[str, str]] = json.loads(within("keys", "list", *self._place, "--json").stdout)
        return found

    def revoke(self, key_id: str) -> None:
        """End a key."""
        assert within("keys", "revoke", key_id, *self._place).exit_code == 0


@pytest.fixture
def load(server: str, realm: str, tmp_path: Path) -> Import:
    """Imports into a fresh realm."""
    return Import(server, realm, tmp_path)


def test_new_keys_come_once(load: Import) -> None:
    """Rows without a key get one each, shown once; the same file again makes none, a longer one what it has more."""
    first = load("project,name,job_type\nshop,web,hero\nshop,app,\n")
    again = load("project,name,job_type\nshop,web,hero\nshop,app,\nblog,web,\n")

    assert [(row["state"], row["key"][:4]) for row in first] == [("made", "igw_")] * 2
    assert [(row["state"], row["key"][:4]) for row in again] == [("there", ""), ("there", ""), ("made", "igw_")]
    assert [row["id"] for row in again[:2]] == [row["id"] for row in first]
    listed = {row["id"]: (row["project"], row["name"], row["job_type"]) for row in load.listed()}
    assert listed == {row["id"]: (row["project"], row["name"], row["job_type"] or None) for row in [*first, again[2]]}


def test_a_revoked_name_gets_a_new_key(load: Import) -> None:
    """A name whose key was ended is free again."""
    [first] = load("project,name\nshop,web\n")
    load.revoke(first["id"])
    [second] = load("project,name\nshop,web\n")

    assert (second["state"], second["id"] != first["id"]) == ("made", True)


def test_kept_keys_are_taken_in(load: Import) -> None:
    """A row with a key makes that one good, once, and prints it nowhere; one that was revoked here stays revoked."""
    kept = new_key()
    text = f"key,project\n{kept},shop\n"
    [taken], [there] = load(text), load(text)
    load.revoke(taken["id"])
    [revoked] = load(text)

    assert [row["state"] for row in (taken, there, revoked)] == ["taken", "there", "revoked"]
    assert len({row["id"] for row in (taken, there, revoked)}) == 1
    assert {row["key"] for row in (taken, there, revoked)} == {""}
    assert [row["state"] for row in load.listed()] == ["revoked"]


def test_a_key_of_another_project_stays_there(load: Import) -> None:
    """A key that is somebody else's ends the import, and is told by its id."""
    kept = new_key()
    [taken] = load(f"key,project\n{kept},shop\n")
    [line] = load.refused(f"key,project\n{kept},blog\n")

    assert taken["id"] in line
    assert kept not in line
    assert [row["project"] for row in load.listed()] == ["shop"]


def test_bad_rows_are_told_together_and_nothing_is_made(load: Import) -> None:
    """Each row that cannot be is a line with its number, keys are in none of them, and the good rows wait too."""
    wrong = new_key()[:-1] + "!"
    said = load.refused(
        "project,name,job_type,key\n"
        "shop,web,,\n"
        "two words,a,,\n"
        ",b,,\n"
        "shop,,,\n"
        "shop,web,,\n"
        f"shop,c,,{wrong}\n"
        "shop,d,he ro,\n"
        "shop,e,,,more\n"
    )

    assert [line.split(":")[1] for line in said[:-1]] == ["3", "4", "5", "6", "7", "8", "9"]
    assert said[-1] == "image-gateway: <stdin>: 7 of its rows cannot be read; nothing was made"
    assert wrong not in "".join(said)
    assert load.listed() == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not name the columns"),
        ("name,key\na,b\n", "does not name the columns"),
        ("project,name,name\na,b,c\n", "column 'name' is named twice"),
        ("project,colour\na,b\n", "column 'colour' is unknown"),
        ('project,name\n"a\n', "line 2 is no CSV"),
        ('project,name\nteam,"a', "line 2 is no CSV"),
        ("project;name\na;b\n", "semicolons part its columns: save it with commas"),
        ("project\tname\na\tb\n", "tabs part its columns: save it with commas"),
    ],
)
def test_a_file_that_is_none(load: Import, text: str, words: str) -> None:
    """A file without the right head is one line that says what a head is."""
    [line] = load.refused(text)

    assert words in line


def test_a_file_as_spreadsheets_write_it(load: Import) -> None:
    """A byte order mark, carriage returns and quotes are read as what they are."""
    [row] = load('\ufeffproject,name\r\n"shop","web, or so"\r\n')

    assert (row["project"], row["name"]) == ("shop", "web, or so")
