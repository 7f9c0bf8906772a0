"""Long work says on stderr how far it is: bars on a terminal, lines elsewhere, nothing with --quiet."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from itertools import count
from pathlib import Path

import pytest

from gateway.cli.progress import Lines
from gateway.ledger.audit import audit
from gateway.ledger.export import export
from gateway.ledger.progress import Meter, Step, told_to
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.cli.command import environ
from tests.ledger.traffic import many_entries
from tests.processes import COMMAND

COUNT = 1_700


@pytest.fixture
async def entries(store: Store, realm: str) -> None:
    """A ledger with four pages of entries."""
    ledger = RedisLedger(store, realm)
    await ledger.open()
    await ledger.aclose()
    await many_entries(store, realm, COUNT)


def on_a_terminal(*arguments: str, **more: str) -> tuple[int, str, str]:
    """Run a command with stderr on a terminal and stdout in a pipe; its exit status and both."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=environ({"TERM": "xterm-256color", "COLUMNS": "80", **more}),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        seen = b""
        try:
            while part := os.read(ours, 65_536):
                seen += part
        except OSError:  # how Linux tells that nobody has the other end any more
            pass
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(ours)
    return process.returncode, out.decode(), seen.decode()


@pytest.mark.usefixtures("entries")
async def test_reading_is_told_to_its_end(store: Store, realm: str, tmp_path: Path) -> None:
    """Each pass tells entries in order up to the last one, and exported lines by what was read of their files."""
    steps: list[Step] = []
    with told_to(steps.append):
        await export(store, realm, tmp_path)
        written = list(steps)
        await audit(store, realm, export=[tmp_path])
    await audit(store, realm)

    assert [step.done for step in written] == [500, 1000, 1500, COUNT]
    assert written[-1] == Step("entries", COUNT, 1.0)
    assert all(step.share and 0 < step.share <= 1 for step in steps)
    lines = [step for step in steps if step.name == "exported lines"]
    assert [step.done for step in lines] == [500, 1000, 1500] * 2
    assert [round(step.share or 0, 1) for step in lines] == [0.3, 0.6, 0.9] * 2


@pytest.mark.usefixtures("entries")
async def test_nobody_listens_and_nothing_is_asked(store: Store, realm: str) -> None:
    """Without a listener the store gets the same commands as ever: what a bar needs is asked for a bar alone."""

    async def calls() -> int:
        said = str(await store.execute("INFO", "commandstats"))
        found = re.search(r"xrevrange'?:? *\{?'?calls'?[=:] *(\d+)", said)
        return int(found[1]) if found else 0

    before = await calls()
    await audit(store, realm)
    silent = await calls()
    with told_to(lambda _: None):
        await audit(store, realm)

    assert await calls() - silent == silent - before + 1


def test_lines_come_at_intervals(capsys: pytest.CaptureFixture[str]) -> None:
    """A line on stderr once in an interval, with the share where it is known, and none before the first is over."""
    clock = count(0, 2).__next__
    lines = Lines(5.0, lambda: float(clock()))
    with told_to(lines):
        for number in range(500, 4_000, 500):
            lines(Step("entries", number, number / 4_000 if number > 2_000 else None))
        Meter("keys", 10, often=1).add(4)

    assert capsys.readouterr().err == "entries: 1,500\nentries: 3,000, 75%\n"


@pytest.mark.usefixtures("entries")
def test_a_terminal_gets_bars_and_stdout_stays_clean(server: str, realm: str) -> None:
    """A bar on stderr without colours, however narrow, taken away at the end; stdout is JSON, as it is with --quiet.

    Where the cursor cannot be moved there are lines at most.
    """
    arguments = ("ledger", "verify", "--realm", realm, "--store", server, "--json")
    status, out, seen = on_a_terminal(*arguments, NO_COLOR="1", COLUMNS="40")
    quiet = on_a_terminal(*arguments, "--quiet")
    dumb = on_a_terminal(*arguments, TERM="dumb")

    assert (status, json.loads(out)["entries"]) == (0, COUNT)
    assert "entries" in seen
    assert seen.endswith("\x1b[2K")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", seen)
    assert quiet == (0, out, "")
    assert (dumb[:2], "\x1b" in dumb[2]) == ((0, out), False)
