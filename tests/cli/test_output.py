"""stdout that cannot be written: nobody reads it to its end, the disk is full, the encoding lacks letters."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from pathlib import Path

import pytest

from gateway.cli.running import write_whole
from gateway.ledger.audit import audit
from gateway.ledger.export import export
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.cli.command import environ, run
from tests.ledger.rules import contents
from tests.ledger.traffic import many_entries, mixed
from tests.processes import COMMAND

COUNT = 1_200
FULL = Path("/dev/full")
POLICY = """
providers: {main: {kind: openai, base_url: "https://images.example.com/v1"}}
routes: {main/gpt-image-2: {provider: main, model: gpt-image-2}}
job_types: {draft: {routes: [main/gpt-image-2]}}
projects: {team: {job_types: [draft], budgets: [{window: day, limit: "10"}]}}
"""


@pytest.fixture(autouse=True)
async def entries(store: Store, realm: str) -> None:
    """A ledger with more entries than a pipe takes."""
    ledger = RedisLedger(store, realm)
    await ledger.open()
    await ledger.aclose()
    await many_entries(store, realm, COUNT)


@pytest.mark.parametrize("target", [(), ("--to", "-")], ids=["by default", "as asked"])
def test_a_reader_that_goes_away(server: str, realm: str, target: tuple[str, ...]) -> None:
    """`… | head -1` gets its line; the command ends with 1, and says nothing, as nobody asked for more."""
    command = [*COMMAND, "ledger", "export", *target, "--realm", realm, "--store", server]
    with subprocess.Popen(command, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()

    assert line.startswith(b'{"fields":')
    assert (process.returncode, said) == (1, b"")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
def test_a_full_disk_behind_stdout(server: str, realm: str) -> None:
    """A report that did not get out whole is no success: one line, exit status 1."""
    command = [*COMMAND, "spend", "--window", "total", "--format", "csv", "--realm", realm, "--store", server]
    with FULL.open("w") as full:
        done = subprocess.run(
            command, env=environ(), stdout=full, stderr=subprocess.PIPE, text=True, timeout=100, check=False
        )

    assert (done.returncode, done.stderr) == (1, "image-gateway: No space left on device\n")


@pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("spend", "--help")], ids=" ".join)
def test_a_full_disk_behind_the_help(arguments: tuple[str, ...]) -> None:
    """That of the program too, which is printed before any command begins."""
    with FULL.open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=environ(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=100,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "image-gateway: No space left on device\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("spend", "--window", "total"),
        ("spend", "--window", "total", "--format", "csv"),
        ("ledger", "verify"),
        ("ledger", "export", "--to", "-"),
        ("completion", "bash"),
        ("--help",),
    ],
    ids=" ".join,
)
def test_no_stdout_at_all(server: str, realm: str, arguments: tuple[str, ...]) -> None:
    """What was asked for and could not be shown, as by `>&-`, is no success either."""
    place = ("--realm", realm, "--store", server) if arguments[0] in {"spend", "ledger"} else ()
    done = without_stdout(*arguments, *place)

    said = "image-gateway: stdout is closed: nobody would be shown what was asked for"
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (1, [said])
    assert "Traceback" not in done.stderr


async def test_nothing_is_done_where_nobody_would_be_told(
    store: Store, server: str, realm: str, tmp_path: Path
) -> None:
    """A command that changes something finds a closed stdout before it begins."""
    ledger = RedisLedger(store, realm)
    await mixed(ledger, 6)
    await ledger.aclose()
    place, invoice = ("--realm", realm, "--store", server), tmp_path / "invoice.csv"
    await asyncio.to_thread(invoice.write_text, "request_id,cost_usd,timestamp\nr0,0.5,2026-11-01T00:00:00Z\n")
    balances = Names(realm).balances
    await store.execute("HSET", balances, next(iter(await store.execute("HGETALL", balances))), "1 0")
    before, adjust = await contents(store, realm), ("ledger", "adjust", "r0", "--cost", "0.5", "--reason", "invoice")
    for arguments in (
        adjust,
        ("ledger", "export", "--to", str(tmp_path / "export")),
        ("ledger", "rebuild"),
        ("reconcile", str(invoice), "--provider", "main", "--apply"),
        ("callbacks", "retry", "msg_x", "--json"),
    ):
        done = await asyncio.to_thread(without_stdout, *arguments, *place)
        said = "image-gateway: stdout is closed: nobody would be shown what was done\n"
        assert (done.returncode, done.stderr) == (1, said)
    assert await contents(store, realm) == before
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["invoice.csv"]
    assert "a change of" in (await asyncio.to_thread(run, *adjust, *place)).stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explain", "--policy", "{folder}", "--project", "team", "-"), "JSON"),
        (("keys", "import", "-"), "<stdin>: its first line does not name the columns"),
    ],
    ids=["explain", "keys import"],
)
def test_no_stdin_at_all(server: str, realm: str, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    """One that a shell closed by `<&-` is empty: a line, as for an empty file."""
    (tmp_path / "policy.yaml").write_text(POLICY)
    place = ("--realm", realm, "--store", server, "--data", str(tmp_path / "data"))
    given = (word.format(folder=tmp_path) for word in arguments)
    command = ["sh", "-c", 'exec "$@" <&-', "sh", *COMMAND, *given, *place]
    done = subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=100, check=False)

    assert done.returncode == 1
    assert [words in line for line in done.stderr.splitlines()] == [True]


@pytest.mark.parametrize("command", ["serve", "demo", "sandbox"])
def test_what_serves_needs_no_stdout(command: str) -> None:
    """It says where it listens to nobody, and goes on."""
    assert without_stdout(command, "--help").returncode == 0


def without_stdout(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as `>&-` starts it."""
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *arguments]
    return subprocess.run(command, env=environ(), capture_output=True, text=True, timeout=100, check=False)


async def test_a_full_disk_under_an_export(store: Store, server: str, realm: str, tmp_path: Path) -> None:
    """An export that has no more room says so in a line; with room again it goes on, and every entry is there once."""
    command = [*COMMAND, "ledger", "export", "--to", "export", "--realm", realm, "--store", server]
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environ(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)),
    )
    out, err = await process.communicate()

    assert (process.returncode, out) == (1, b"")
    assert err == b"image-gateway: File too large\n"
    await export(store, realm, tmp_path / "export")
    found = await audit(store, realm, export=[tmp_path / "export"])
    assert found.agrees
    assert found.history is not None
    assert found.history.lines == COUNT


def test_a_terminal_without_these_letters(server: str, realm: str, tmp_path: Path) -> None:
    """Where the encoding has no box to draw and no arrow, tables are ASCII and nothing fails."""
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "policy.yaml").write_text(POLICY)
    command = [*COMMAND, "explain", "-", "--policy", str(tmp_path / "policy"), "--project", "team"]
    done = subprocess.run(
        command,
        input='{"prompt": "a lighthouse"}',
        env=environ({"PYTHONIOENCODING": "iso-8859-1", "COLUMNS": "40"}),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\\u2192 main/gpt-image-2" in done.stdout
    assert "+--" in done.stdout


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """What cannot be encoded half-way leaves the file as it was, alone; a new one has the mode of the former."""
    page = tmp_path / "page.html"
    write_whole(page, "zero")
    page.chmod(0o600)
    write_whole(page, "one")
    assert page.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UnicodeEncodeError):
        write_whole(page, "two" * 100_000 + "\ud800")

    assert page.read_text() == "one"
    assert list(tmp_path.iterdir()) == [page]
