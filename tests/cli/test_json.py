"""Commands that do something tell what they did as one JSON document with `--json`."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import click
import pytest

from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.ledger.tasks import RedisTasks
from tests.cli.command import commands, within
from tests.cli.test_statuses import POLICY
from tests.ledger.rules import budget, candidate, hold, settlement
from tests.ledger.test_callbacks import told

DOING = {
    "check",
    "keys create",
    "keys import",
    "keys revoke",
    "keys rotate",
    "callbacks retry",
    "callbacks secret",
    "ledger rebuild",
    "ledger export",
    "ledger adjust",
}
"""What is tried here; commands that show something have `--format` too, and are tried together with that."""
SERVING = {"serve", "demo", "sandbox", "completion"}
"""These print nothing that a program would read as JSON."""


class Shell:
    """Commands on a store of the test's own realm."""

    def __init__(self, server: str, realm: str, given_up: str) -> None:
        self.given_up = given_up
        self.place = ("--store", server, "--realm", realm, "--data", "data")

    def said(self, *arguments: str, status: int = 0) -> Any:
        """Run a command with `--json`; returns what stdout is."""
        done = within(*arguments, *self.place, "--json")
        assert done.exit_code == status, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def shell(server: str, realm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """A shell in a directory with a policy, on a store with a booked request and a callback that was given up."""

    async def begin() -> None:
        store = Store(server, deadline=10.0, patience=30.0)
        ledger = RedisLedger(store, realm)
        await ledger.open()
        await hold(ledger, "req_1", candidate((budget(1000), 100)))
        await ledger.settle(settlement("req_1", 80_000))
        callbacks = RedisCallbacks(store, realm)
        given_up.append(await told(ledger, RedisTasks(store, realm)))
        [callback] = await callbacks.due(1)
        await callbacks.failed(callback, "410", None)
        await ledger.aclose()
        await store.aclose()

    given_up: list[str] = []
    asyncio.run(begin())
    monkeypatch.chdir(tmp_path)
    Path("policy").mkdir()
    Path("policy/policy.yaml").write_text(POLICY)
    return Shell(server, realm, given_up[0])


def test_every_command_has_it() -> None:
    """All commands but those that serve have `--json`, and those that have no `--format` are tried here."""
    doing = set()
    for name, command in commands():
        options = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
        assert ("--json" in options) == (name not in SERVING), name
        if "--json" in options and "--format" not in options:
            doing.add(name)
    assert doing == DOING


def test_keys(shell: Shell) -> None:
    """A key that is made comes with its secret, one that is ended without."""
    made = shell.said("keys", "create", "--project", "team", "--name", "web")
    turned = shell.said("keys", "rotate", made["id"], "--grace", "60")
    ended = shell.said("keys", "revoke", made["id"])

    assert (made["project"], made["name"], made["state"], made["key"][:4]) == ("team", "web", "live", "igw_")
    assert turned["id"] != made["id"]
    assert turned["key"].startswith("igw_")
    assert (ended["id"], ended["state"], "key" in ended) == (made["id"], "revoked", False)


def test_a_key_that_is_replaced_takes_its_limits_along_by_policy_alone(shell: Shell) -> None:
    """A budget with the old key's id would fall silent: whoever rotates it is told, by both ids."""
    made = shell.said("keys", "create", "--project", "team")
    done = within("keys", "rotate", made["id"], *shell.place, "--json")
    assert f"`key: {made['id']}`, say the same of {json.loads(done.stdout)['id']}" in done.stderr


def test_a_key_that_is_replaced_is_said_to_end_when_it_does(shell: Shell) -> None:
    """Of one that has ended no grace is told, and of one that ends soon none beyond that."""

    def told(key_id: str, *grace: str) -> str:
        return within("keys", "rotate", key_id, *grace, *shell.place).stderr

    made = shell.said("keys", "create", "--project", "team")
    assert "which ends in 60 s;" in told(made["id"], "--grace", "60")
    soon = re.search(r"which ends in ([\d.]+) s;", told(made["id"], "--grace", "3600"))
    assert soon is not None
    assert float(soon[1]) <= 60
    assert "which ends now;" in told(made["id"])
    assert "which has ended already (revoked);" in told(made["id"], "--grace", "3600")


def test_the_ledger(shell: Shell) -> None:
    """An export tells where and how many, a rebuild what it changed and how everything stands."""
    exported = shell.said("ledger", "export", "--to", "export")
    rebuilt = shell.said("ledger", "rebuild")

    assert exported == {"directory": "export", "written": 1, "trimmed": 0, "last": exported["last"], "cut": None}
    assert (rebuilt["changes"], rebuilt["agree"], rebuilt["findings"]) == ([], True, [])


def test_an_adjustment(shell: Shell) -> None:
    """It tells whether it was booked now or before, and what that changed."""
    arguments = ("ledger", "adjust", "req_1", "--cost", "0.00003", "--reason", "invoice", "--id", "inv-1")
    same = {"id": "inv-1", "request": "req_1", "attempt": 1}

    assert shell.said(*arguments) == {**same, "booked": True, "change_usd": "-0.00005"}
    assert shell.said(*arguments) == {**same, "booked": False, "change_usd": "0.00"}


def test_check(shell: Shell) -> None:
    """A policy's problems and tests are lists; the exit status says whether there is any."""
    good = json.loads(within("check", "policy", "--json").stdout)
    Path("policy/policy.yaml").write_text(POLICY.replace("draft]", "darft]"))
    done = within("check", "policy", "--json")
    bad = json.loads(done.stdout)

    assert (good["ok"], good["problems"], good["tests"]) == (True, [], {"passed": 0, "failures": []})
    assert (done.exit_code, bad["ok"], bad["digest"], bad["tests"]) == (1, False, None, None)
    assert "did you mean draft?" in bad["problems"][0]


def test_callbacks(shell: Shell) -> None:
    """The secret of a project comes with the project, a callback that is sent again with its state."""
    said = shell.said("callbacks", "secret", "--policy", "policy", "--project", "team")

    assert (said["project"], said["secret"].startswith("whsec_")) == ("team", True)
    assert shell.said("callbacks", "retry", shell.given_up) == {"id": shell.given_up, "state": "waiting"}
