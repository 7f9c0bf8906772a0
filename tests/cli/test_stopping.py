"""Ctrl-C and SIGTERM in the middle of long work: one line, 130 or 143, and nothing half done."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
from pathlib import Path

import pytest

from gateway.ledger.audit import Kind, audit
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.pepper import digest, load_pepper
from gateway.ledger.rebuild import rebuild
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.cli.command import gated, run, stopped_at
from tests.ledger.traffic import many_entries

COUNT = 1_700
"""Entries: four pages."""
POLICY = """
providers: {main: {kind: openai, base_url: "https://images.example.com/v1"}}
routes: {main/gpt-image-2: {provider: main, model: gpt-image-2}}
job_types: {draft: {routes: [main/gpt-image-2]}}
projects: {team: {job_types: [draft], budgets: [{window: day, limit: "10"}]}}
"""


async def entries(store: Store, realm: str) -> None:
    """A ledger with entries that agree with its balance."""
    ledger = RedisLedger(store, realm)
    await ledger.open()
    await ledger.aclose()
    await many_entries(store, realm, COUNT)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_an_export_goes_on_where_it_ended(
    store: Store, server: str, realm: str, tmp_path: Path, number: signal.Signals
) -> None:
    """Stopped between two pages, an export has whole lines alone; run again it has every entry once."""
    await entries(store, realm)
    target = tmp_path / "export"
    arguments = ("ledger", "export", "--to", str(target), "--realm", realm)
    async with gated(server, tmp_path, b"exported_hash", 3) as (gate, url):
        done = await stopped_at(gate, number, *arguments, "--store", url)

    words = f"image-gateway: stopped: what is in {target} is whole; run it again to go on\n"
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", words)
    [file] = target.glob("*.jsonl")
    before = file.read_bytes()
    whole = before.count(b"\n")
    assert 0 < whole < COUNT
    assert before.endswith(b"\n")
    assert (await export(store, realm, target)).written == COUNT - whole
    lines = [json.loads(line)["id"] for line in file.read_text().splitlines()]
    assert file.read_bytes().startswith(before)
    assert len(set(lines)) == len(lines) == COUNT
    assert (await audit(store, realm, export=[target])).agrees


async def test_a_rebuild_is_finished_by_the_next(store: Store, server: str, realm: str, tmp_path: Path) -> None:
    """Stopped between two scripts, a rebuild leaves balances that are put right or as they were; the next ends it."""
    await entries(store, realm)
    junk = [text for number in range(250) for text in (f"requests|c{number:03}@60", "junk")]
    await store.execute("HSET", Names(realm).balances, *junk)
    async with gated(server, tmp_path, b"requests|c150@60", 1) as (gate, url):
        done = await stopped_at(gate, signal.SIGINT, "ledger", "rebuild", "--realm", realm, "--store", url)
    left = await audit(store, realm)
    again = await rebuild(store, realm)

    words = "image-gateway: stopped: what was put right stays; run it again to finish\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "", words)
    assert [finding.kind for finding in left.findings] == [Kind.BALANCE] * 150
    assert (again.audit.agrees, len(again.changes)) == (True, 150)


async def test_a_replay_leaves_nothing(store: Store, server: str, realm: str, tmp_path: Path) -> None:
    """Stopped while it reads, a replay prints nothing, writes no page, and changes nothing."""
    await entries(store, realm)
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.yaml").write_text(POLICY)
    page = tmp_path / "page.html"
    arguments = ("replay", "--policy", str(tmp_path / "policy"), "--since", "2023-01-01", "--realm", realm)
    async with gated(server, tmp_path, b"XRANGE", 3) as (gate, url):
        done = await stopped_at(gate, signal.SIGTERM, *arguments, "--chart", str(page), "--store", url)

    assert (done.returncode, done.stdout, done.stderr) == (143, "", "image-gateway: stopped: nothing was changed\n")
    assert "page" not in " ".join(os.listdir(tmp_path))  # noqa: PTH208 - in a coroutine
    assert (await audit(store, realm)).agrees


async def test_an_import_of_keys_is_finished_by_the_next(store: Store, server: str, realm: str, tmp_path: Path) -> None:
    """Stopped half-way, an import has shown every key that is good; the next makes those that are missing alone."""
    names = [f"service-{number:03}" for number in range(60)]
    file = tmp_path / "keys.csv"
    file.write_text("project,name\n" + "".join(f"team,{name}\n" for name in names))
    arguments = ("keys", "import", str(file), "--realm", realm, "--data", str(tmp_path))
    async with gated(server, tmp_path, b"service-040", 1) as (gate, url):
        done = await stopped_at(gate, signal.SIGINT, *arguments, "--store", url)
    again = run(*arguments, "--store", server)
    shown = {
        row["name"]: row["key"]
        for text in (done.stdout, again.stdout)
        for row in csv.DictReader(io.StringIO(text))
        if row["state"] == "made"
    }
    good = await store.execute("HGETALL", Names(realm).keys)

    assert done.returncode == 130
    words = "keys that were made stay, and this output alone has them; run it again, into another, for the others"
    assert done.stderr == f"image-gateway: stopped: {words}\n"
    assert len(done.stdout.splitlines()) == 1 + 41
    assert again.returncode == 0
    assert len(again.stdout.splitlines()) == 1 + 60
    pepper = load_pepper(tmp_path, None)
    assert {digest(pepper, secret): name for name, secret in shown.items()} == {
        where: json.loads(record)["name"] for where, record in good.items()
    }
    assert sorted(shown) == names


async def test_a_stopped_list_is_whole_json(store: Store, server: str, realm: str, tmp_path: Path) -> None:
    """With `--json` what was made before the stop is a list that can be read."""
    file = tmp_path / "keys.csv"
    file.write_text("project,name\nteam,one\nteam,two\nteam,three\n")
    arguments = ("keys", "import", str(file), "--realm", realm, "--data", str(tmp_path), "--json")
    async with gated(server, tmp_path, b"three", 1) as (gate, url):
        done = await stopped_at(gate, signal.SIGTERM, *arguments, "--store", url)

    assert (done.returncode, [row["name"] for row in json.loads(done.stdout)]) == (143, ["one", "two", "three"])
