"""`image-gateway ledger` beside a running gateway: verify, rebuild, export and adjust, as an operator types them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.embedded import embedded_store
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.sandbox.client import Sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, running_gateway, wait_until

PATH = "/v1/images/generations"
BODY = {"model": "gpt-image-2", "prompt": "a boat", "quality": "low", "size": "1024x1024"}
NAMES = Names()


@pytest.fixture
def stack(tmp_path: Path, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway of the test's own, which has made three images."""
    with running_gateway(tmp_path, ONE_ACCOUNT, sandbox) as running:
        for _ in range(3):
            make_image(running)
        yield running


def make_image(stack: Stack) -> str:
    """Make one image; returns the request's id."""
    reply = stack.post(PATH, BODY)
    assert reply.status == 200, reply.body
    return reply.headers["x-request-id"]


def store_command(stack: Stack, *command: str) -> object:
    """Send a command to the store behind the gateway's back."""

    async def send(url: str) -> object:
        store = Store(url)
        try:
            return await store.execute(*command)
        finally:
            await store.aclose()

    with embedded_store(stack.data) as url:
        return asyncio.run(send(url))


def ledger(stack: Stack, *arguments: str, status: int = 0) -> str:
    """Run a subcommand; returns what it printed."""
    done = stack.command("ledger", *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done
    return done.stdout or done.stderr


def spent(stack: Stack) -> str:
    """What the reports say was spent."""
    return str(json.loads(stack.command("spend", "--format", "json").stdout)["total"]["route_usd"])


def test_damage_is_found_and_repaired(stack: Stack) -> None:
    """A balance that somebody changed is named with what it should be, and put right beside the running gateway."""
    assert re.fullmatch(r"balances agree: \d+ balances, 3 entries, 0 live holds\n", ledger(stack, "verify"))
    cells = store_command(stack, "HKEYS", NAMES.balances)
    assert isinstance(cells, list)
    cell = next(each for each in cells if each.startswith("usd|"))
    store_command(stack, "HSET", NAMES.balances, cell, "junk")

    said = ledger(stack, "verify", status=1)
    assert f"balance {cell}: holds junk: 'junk'" in said
    assert said.splitlines()[-1].startswith("1 findings in ")
    found = json.loads(ledger(stack, "verify", "--format", "json", "--thorough", status=1))
    [finding] = found["findings"]
    assert (found["agree"], finding["kind"], finding["name"], finding["found"]) == (False, "balance", cell, "junk")
    assert f"balance {cell}: 'junk' is now '{finding['expected']}'" in ledger(stack, "rebuild")
    assert "nothing was to be changed" in ledger(stack, "rebuild")
    make_image(stack)
    assert "balances agree" in ledger(stack, "verify")


def test_a_wiped_store_comes_back_under_a_running_gateway(stack: Stack, tmp_path: Path) -> None:
    """Export, lose everything, rebuild from the export: the gateway goes on by itself, and no cent is missing."""
    first = stack.record(make_image(stack))
    exported = str(tmp_path / "export")
    assert ledger(stack, "export", "--to", exported).startswith("4 entries exported")
    assert ledger(stack, "export", "--to", exported, "--trim", "--keep", "1h").startswith("0 entries exported")
    total = ledger(stack, "verify", "--export", exported)
    assert "4 exported lines" in total
    balances = store_command(stack, "HGETALL", NAMES.balances)
    assert isinstance(balances, dict)

    for name in (NAMES.meta, NAMES.balances, NAMES.entries, NAMES.due, NAMES.base, NAMES.instances):
        store_command(stack, "DEL", name)
    store_command(stack, "DEL", NAMES.request(first["id"]))
    assert "--from" in ledger(stack, "rebuild", status=1)
    assert "was emptied" in ledger(stack, "verify", status=1)
    wait_until(lambda: stack.post(PATH, BODY).status == 503, 20, "the gateway to notice")
    assert "running gateways go on" in ledger(stack, "rebuild", "--from", exported)
    wait_until(lambda: stack.post(PATH, BODY).status == 200, 20, "the gateway to go on")
    assert "balances agree" in ledger(stack, "verify", "--export", exported)
    assert stack.record(first["id"])["attempts"][0]["cost"] == first["attempts"][0]["cost"]
    after = store_command(stack, "HGETALL", NAMES.balances)
    assert isinstance(after, dict)
    for cell in (each for each in balances if each.startswith("usd|")):
        assert int(after[cell].split()[0]) >= int(balances[cell].split()[0])
    assert ledger(stack, "export", "--to", exported).startswith("1 entries exported")


def test_a_broken_export_is_told_by_file_and_line(stack: Stack, tmp_path: Path) -> None:
    """One byte changed in an export is one line on stderr, with the place."""
    ledger(stack, "export", "--to", str(tmp_path / "export"))
    [file] = (tmp_path / "export").glob("*.jsonl")
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + lines[1].replace("low", "LOW", 1) + lines[2])
    for arguments in (("verify", "--export"), ("rebuild", "--from")):
        said = ledger(stack, *arguments, str(tmp_path / "export"), status=1)
        assert said == f"image-gateway: {file}:2: the line was changed: its hash does not fit\n"


def test_lines_on_stdout(stack: Stack) -> None:
    """`--to -` prints what the stream has, a JSON line an entry, without a prompt or a secret in it."""
    lines = [json.loads(line) for line in ledger(stack, "export", "--to", "-").splitlines()]
    assert [line["fields"]["kind"] for line in lines] == ["settle"] * 3
    assert [line["prev"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]
    assert "a boat" not in json.dumps(lines)


def test_an_invoice_adjusts_a_request(stack: Stack) -> None:
    """What an invoice says replaces what was booked, once, in every view and every balance."""
    before, request_id = spent(stack), make_image(stack)
    arguments = ("adjust", request_id, "--cost", "0.5", "--reason", "invoice 7")
    assert f"request {request_id}, attempt 1: 0.50 USD, a change of " in ledger(stack, *arguments)
    assert "was booked before" in ledger(stack, *arguments)
    assert float(spent(stack)) == pytest.approx(float(before) + 0.5)
    assert "balances agree" in ledger(stack, "verify")
    assert ledger(stack, "adjust", request_id, "--cost", "0", "--reason", "refund").endswith("a change of -0.50\n")
    assert spent(stack) == before
    assert "balances agree" in ledger(stack, "verify")
    # The refund is undone, and granted again: each is booked, by the same words as before.
    assert ledger(stack, *arguments).endswith("a change of 0.50\n")
    assert "was booked before" in ledger(stack, *arguments)
    assert ledger(stack, "adjust", request_id, "--cost", "0", "--reason", "refund").endswith("a change of -0.50\n")
    held = {view: float(usd) for view, usd in stack.record(request_id)["attempts"][0]["cost_estimate"].items()}
    ledger(stack, *arguments)
    cost = {view: float(usd) for view, usd in stack.record(request_id)["attempts"][0]["cost"].items()}
    assert cost == {view: pytest.approx(usd * 0.5 / held["route"]) for view, usd in held.items()}
    assert "balances agree" in ledger(stack, "verify")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("adjust", "req_nobody", "--cost", "1", "--reason", "x"), 1, "no request req_nobody is remembered"),
        (("adjust", "a b", "--cost", "1", "--reason", "x"), 1, "no request a b is remembered"),
        (("adjust", "r", "--cost", "-1", "--reason", "x"), 2, "decimal amount"),
        (("export", "--to", "x", "--keep", "soon"), 2, "'soon' is no duration"),
        (("export", "--to", "-", "--trim"), 2, "only what lies in a directory"),
        (("rebuild", "--empty"), 1, "no loss to accept"),
        (("rebuild", "--empty", "--from", "."), 2, "exclude each other"),
        (("verify", "--export", "nowhere"), 2, "does not exist"),
        (("verify", "--export", "."), 1, "there is no export"),
    ],
)
def test_misuse(used: Stack, arguments: tuple[str, ...], status: int, words: str) -> None:
    """Each mistake is one clear line and the right exit status."""
    assert words in ledger(used, *arguments, status=status)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that the tests above do not change."""
    with running_gateway(tmp_path_factory.mktemp("used"), ONE_ACCOUNT, sandbox) as running:
        yield running
