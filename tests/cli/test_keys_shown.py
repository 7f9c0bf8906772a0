"""A key is shown once: one that could not be printed is good for nobody, and its id is told."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import environ, within
from tests.processes import COMMAND, Done

FULL = Path("/dev/full")


class Shell:
    """Commands about keys, on a store of the test's own realm."""

    def __init__(self, server: str, realm: str, data: Path) -> None:
        self.place = ("--store", server, "--realm", realm, "--data", str(data))

    def states(self) -> dict[str, str]:
        """What `keys list` says of each key, by its id."""
        return {each["id"]: each["state"] for each in self.rows()}

    def rows(self) -> list[dict[str, Any]]:
        """What `keys list` says of each key."""
        rows: list[dict[str, Any]] = json.loads(within("keys", "list", *self.place, "--json").stdout)
        return rows

    def into_full(self, *arguments: str) -> Done:
        """Run a command whose output goes to a full disk."""
        with FULL.open("w") as full:
            return subprocess.run(
                [*COMMAND, *arguments, *self.place],
                env=environ(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=100,
                check=False,
            )

    def into_nothing(self, *arguments: str) -> Done:
        """Run a command that was started without an output, as by `>&-`."""
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *arguments, *self.place]
        return subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def shell(server: str, realm: str, tmp_path: Path) -> Shell:
    """A fresh realm."""
    return Shell(server, realm, tmp_path)


def test_when_a_key_ends_is_shown(shell: Shell) -> None:
    """The day and time of its revocation, or until when one is good that was replaced; nothing of others."""
    begun = datetime.now(UTC).replace(microsecond=0)

    def made(*arguments: str) -> str:
        return str(json.loads(within("keys", *arguments, *shell.place, "--json").stdout)["id"])

    gone, old = made("create", "--project", "team"), made("create", "--project", "team")
    new = made("rotate", old, "--grace", "86400")
    assert json.loads(within("keys", "revoke", gone, *shell.place, "--json").stdout)["revoked"] is not None
    rows = {each["id"]: each for each in json.loads(within("keys", "list", *shell.place, "--json").stdout)}
    lines = within("keys", "list", *shell.place).stdout.splitlines()
    cells = {line.split()[1]: line.split("│")[-2].strip() for line in lines if "key_" in line}

    assert [rows[each]["revoked"] is None for each in (gone, old, new)] == [False, True, True]
    assert [rows[each]["expires"] is None for each in (gone, old, new)] == [True, False, True]
    assert begun <= datetime.fromisoformat(rows[gone]["revoked"]) <= datetime.now(UTC)
    assert begun < datetime.fromisoformat(rows[old]["expires"]) - timedelta(hours=23)
    assert cells == {gone: rows[gone]["revoked"], old: rows[old]["expires"], new: "-"}


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_key_that_could_not_be_printed_is_revoked(shell: Shell, form: tuple[str, ...]) -> None:
    """One line names it, alone."""
    done = shell.into_full("keys", "create", "--project", "team", *form)

    [(key_id, state)] = shell.states().items()
    assert state == "revoked"
    line = f"image-gateway: key {key_id} could not be printed: No space left on device; it was revoked\n"
    assert (done.returncode, done.stderr) == (1, line)


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_rotated_key_that_could_not_be_printed_is_revoked(shell: Shell) -> None:
    """What became of the old one is told too."""
    old = json.loads(within("keys", "create", "--project", "team", *shell.place, "--json").stdout)["id"]
    done = shell.into_full("keys", "rotate", old, "--grace", "600")

    states = shell.states()
    [new] = states.keys() - {old}
    assert (states[old], states[new]) == ("live", "revoked")
    said = f"key {new} could not be printed: No space left on device; it was revoked, and {old} ends in 600 s"
    assert (done.returncode, done.stderr) == (1, f"image-gateway: {said}\n")


def test_the_end_of_a_key_that_has_expired_stays(shell: Shell) -> None:
    """Revoked afterwards or replaced, it is shown as it was; what came first is its end, also where both are known."""
    old = json.loads(within("keys", "create", "--project", "team", *shell.place, "--json").stdout)["id"]
    within("keys", "rotate", old, *shell.place, "--grace", "0.001")
    [row] = [each for each in shell.rows() if each["id"] == old]
    assert (row["state"], row["revoked"]) == ("expired", None)

    revoked = within("keys", "revoke", old, *shell.place, "--json")
    assert json.loads(revoked.stdout) == row
    assert revoked.stderr.startswith(f"expired {old} of project team\n")
    within("keys", "rotate", old, *shell.place)
    assert row in shell.rows()
    lines = within("keys", "list", *shell.place).stdout.splitlines()
    assert [row["expires"]] == [line.split("│")[-2].strip() for line in lines if old in line]


@pytest.mark.parametrize("hours", [-1, 1], ids=["behind", "ahead"])
def test_what_keys_are_goes_by_the_clock_of_the_store(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """By which they end, whatever the clock says of the machine on which they are looked at."""

    def made() -> str:
        return str(json.loads(within("keys", "create", "--project", "team", *shell.place, "--json").stdout)["id"])

    ended, lasting = made(), made()
    within("keys", "rotate", ended, *shell.place, "--grace", "0.001")
    wrong = time.time() + 3600 * hours
    monkeypatch.setattr(time, "time", lambda: wrong)
    within("keys", "rotate", lasting, *shell.place, "--grace", "1800")
    new = made()

    rows = {each["id"]: each for each in shell.rows()}
    assert [rows[each]["state"] for each in (ended, lasting, new)] == ["expired", "live", "live"]
    assert abs(datetime.fromisoformat(rows[new]["created"]).timestamp() - wrong) > 3000
    assert within("keys", "revoke", ended, *shell.place).stderr.startswith(f"expired {ended} ")
    assert f"{ended}, which has ended already (expired)" in within("keys", "rotate", ended, *shell.place).stderr


def test_nothing_is_ended_where_nobody_would_be_told(shell: Shell) -> None:
    """JSON was asked for, and there is no output; in words it is said on stderr."""
    key = json.loads(within("keys", "create", "--project", "team", *shell.place, "--json").stdout)["id"]
    done = shell.into_nothing("keys", "revoke", key, "--json")

    assert (done.returncode, done.stderr) == (
        1,
        "image-gateway: stdout is closed: nobody would be shown what was done\n",
    )
    assert shell.states() == {key: "live"}
    assert shell.into_nothing("keys", "revoke", key).returncode == 0
    assert shell.states() == {key: "revoked"}


@pytest.mark.parametrize(
    "arguments",
    [("keys", "create", "--project", "team"), ("keys", "rotate", "key_x"), ("keys", "import", "keys.csv")],
    ids=["create", "rotate", "import"],
)
def test_no_key_is_made_where_there_is_no_output(
    shell: Shell, arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused before anything is begun."""
    monkeypatch.chdir(tmp_path)
    Path("keys.csv").write_text("project,name\nteam,web\n")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    done = shell.into_nothing(*arguments)

    assert (done.returncode, done.stderr) == (1, "image-gateway: stdout is closed: nobody would be shown the key\n")
    assert shell.states() == {}
