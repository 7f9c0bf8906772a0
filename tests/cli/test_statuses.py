"""Exit statuses, and the line that comes with them: what is wrong, never a traceback."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from gateway.cli.completion import VARIABLE
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from tests.cli.command import commands, within

ROOT = Path(__file__).parents[2]
POLICY = """
providers: {main: {kind: openai, base_url: "https://images.example.com/v1"}}
routes: {main/gpt-image-2: {provider: main, model: gpt-image-2}}
job_types: {draft: {routes: [main/gpt-image-2]}}
projects: {team: {job_types: [draft], budgets: [{window: day, limit: "10"}]}}
"""
NOBODY = 65534
STRANGER = 54_321
"""A user of whom the system has no entry."""
AWAY = "unix:///nowhere/at/all.sock"
RECONCILE = ["reconcile", "invoice.csv", "--provider", "main"]
REPLAY = ["replay", "--policy", "policy"]

WRONG = [
    (["spend", "--by", "colour"], "cannot report by 'colour'"),
    (["spend", "--by", "project,route,project"], "'project' is there twice"),
    (["explain", "--policy", "policy", "--date", "2026-13-01"], "'2026-13-01' is not a day such as 2026-12-01"),
    (["spend", "--since", "someday"], "someday"),
    (["spend", "--since", "2026-02-01", "--until", "2026-01-01"], "before it begins"),
    (
        ["spend", "--store", "localhost:6379"],
        "Invalid value for '--store': store URL 'localhost:6379': must be redis://",
    ),
    (["check", "policy", "--json=yes"], "'--json' does not take a value"),
    (["keys", "rotate", "key_x", "--grace", "soon"], "'soon' is not a number of seconds such as 30"),
    (
        ["serve", "--policy", "policy", "--assets", "s3:bucket"],
        "Invalid value for '--assets': the URL must name a bucket",
    ),
    (["spend", "--window", "day", "--since", "3d"], "--window is a period of its own"),
    (["spend", "--experiment", "x", "--shadow"], "--experiment is a report of its own"),
    (["spend", "--reprice", "invoice.csv"], "is a file"),
    (["spend", "--export", "nowhere"], "does not exist"),
    (["spend", "extra"], "unexpected extra argument"),
    ([*REPLAY, "--since", "someday"], "someday"),
    ([*REPLAY, "--chart", "nowhere/page.html"], "nowhere is no directory"),
    ([*REPLAY, "--chart", "."], "is a directory"),
    ([*REPLAY, "--chart", "loop"], "cannot write loop: Too many levels of symbolic links"),
    (["keys", "list", "--data", "~/gateway"], "'~/gateway' begins with ~, which stands for no directory here"),
    (["ledger", "export", "--to", "~/exports"], "'~/exports' begins with ~, which stands for no directory here"),
    (["reconcile", "nowhere.csv", "--provider", "main"], "does not exist"),
    (["reconcile", "invoice.csv", "--until", "2026-11-03"], "with --provider: nothing is booked yet"),
    ([*RECONCILE, "--columns", "colour=x"], "colour"),
    ([*RECONCILE, "--currency-unit", "pounds"], "pounds"),
    ([*RECONCILE, "--tolerance", "much"], "much"),
    ([*RECONCILE, "--edge", "near"], "near"),
    ([*RECONCILE, "--model", "m"], "model=COLUMN"),
    ([*RECONCILE, "--json", "--format", "csv"], "do not go together"),
    (["ledger", "export", "--trim"], "give --to a directory"),
    (["ledger", "export", "--json"], "leave out --json"),
    (["ledger", "export", "--to", "-", "--trim"], "give --to a directory"),
    (["ledger", "export", "--to", "-", "--json"], "leave out --json"),
    (["ledger", "export", "--to", "x", "--keep", "long"], "35d"),
    (["ledger", "export", "--to", ""], "it is empty"),
    (["ledger", "export", "--to", "invoice.csv"], "is a file"),
    (["ledger", "rebuild", "--empty", "--from", "invoice.csv"], "exclude each other"),
    (["ledger", "adjust", "req_x", "--cost", "much", "--reason", "r"], "much"),
    (["ledger", "adjust", "req_x", "--cost", "1"], "Missing option '--reason'"),
    (["ledger", "verfy"], "Did you mean 'verify'?"),
    (["keys", "import"], "Missing argument 'FILE'"),
    (["keys", "import", "nowhere.csv"], "does not exist"),
    (["keys", "import", "policy"], "is a directory"),
    (["callbacks", "list", "--limit", "0"], "not in the range"),
    (["callbacks", "secret", "--policy", "policy", "--project", "tean"], "did you mean team?"),
    (["explain", "nowhere.json", "--policy", "policy", "--project", "team"], "No such file"),
    (["explain", "request.json", "--policy", "policy", "--project", "tean"], "did you mean team?"),
    (["check"], "Missing argument 'DIRECTORY'"),
    (["check", "invoice.csv"], "is a file"),
    (["completion", "tcsh"], "'tcsh' is not one of"),
    (["completion"], "Missing argument"),
]
"""Arguments that nobody can do anything with."""
NOT_DONE = [
    (["spend", "--data", "elsewhere"], "there is no store in elsewhere"),
    (["keys", "create", "--project", "team", "--data", "loop"], "/loop cannot be used: File exists"),
    (["keys", "list", "--data", "loop"], "there is no store in loop"),
    (["spend", "--reprice", "broken"], "the policy does not check"),
    ([*REPLAY[:1], "--policy", "broken"], "the policy does not check"),
    (["explain", "request.json", "--policy", "broken", "--project", "team"], "the policy does not check"),
    (["explain", "invoice.csv", "--policy", "policy", "--project", "team"], "JSON"),
    (["reconcile", "binary.csv", "--provider", "main"], "is not UTF-8 text"),
    (["reconcile", "empty.csv", "--provider", "main"], "empty.csv"),
    (["reconcile", "spread.csv", "--provider", "main"], "spread.csv: semicolons part its columns: save it with commas"),
    (["keys", "import", "binary.csv"], "is not UTF-8 text"),
    (["keys", "import", "empty.csv"], "does not name the columns"),
    (["keys", "import", "invoice.csv"], "column 'request_id' is unknown"),
    (["ledger", "verify", "--export", "policy"], "there is no export"),
    (["ledger", "rebuild", "--from", "invoice.csv"], "not a line of an export"),
    (["ledger", "rebuild", "--from", "binary.jsonl"], "binary.jsonl:1: not a line of an export ('utf-8' codec"),
    (["ledger", "rebuild", "--from", "request.json"], "request.json: there is no whole line of an export"),
    (["ledger", "rebuild", "--from", "cut"], "cut: there is no whole line of an export"),
    (["ledger", "verify", "--export", "empty.csv"], "empty.csv: there is no whole line of an export"),
    (["ledger", "verify", "--export", "request.json"], "request.json: there is no whole line of an export"),
    (["spend", "--export", "request.json"], "request.json: there is no whole line of an export"),
    ([*REPLAY, "--export", "empty.csv"], "empty.csv: there is no whole line of an export"),
    ([*RECONCILE, "--until", "2026-11-03", "--export", "empty.csv"], "empty.csv: there is no whole line of an export"),
    (["ledger", "adjust", "req_x", "--cost", "1", "--reason", "r"], "no request req_x is remembered"),
    (["keys", "revoke", "key_nope"], "there is no key of that id: ids begin with key_"),
    (["callbacks", "retry", "cb_nope"], "no callback cb_nope"),
]
"""What is well said and cannot be done."""
STORED = {
    "keys create": ["--project", "team"],
    "keys import": ["keys.csv"],
    "keys revoke": ["key_x"],
    "keys rotate": ["key_x"],
    "callbacks retry": ["cb_x"],
    "callbacks secret": ["--policy", "policy", "--project", "team"],
    "explain": ["request.json", "--policy", "policy", "--project", "team", "--live"],
    "ledger export": ["--to", "export"],
    "ledger adjust": ["req_x", "--cost", "1", "--reason", "r"],
    "reconcile": ["invoice.csv", "--provider", "main", "--until", "2026-11-03"],
    "replay": ["--policy", "policy"],
}
"""Arguments of commands that ask a store, where they need any; those that serve are tried elsewhere."""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, server: str, realm: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with what commands read, a store that has a ledger, and variables that name it."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"policy": POLICY, "broken": POLICY.replace("draft]", "darft]")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)
    Path("request.json").write_text('{"prompt": "a lighthouse"}')
    Path("invoice.csv").write_text("request_id,cost_usd,timestamp\nreq_1,0.04,2026-11-02\n")
    Path("keys.csv").write_text("project,name\nteam,web\n")
    Path("spread.csv").write_text("request_id;cost_usd;timestamp\nreq_1;0,04;2026-11-02\n")
    Path("binary.csv").write_bytes(b"\xff\xfe\x00\x00")
    Path("binary.jsonl").write_bytes("a lighthouse\n".encode("utf-16"))
    Path("empty.csv").write_text("")
    Path("loop").symlink_to("loop")
    Path("cut").mkdir()
    Path("cut/entries-1795418411605-0.jsonl").touch()
    Path("secret.csv").touch(mode=0)
    asyncio.run(opened(server, realm))
    return tmp_path


async def opened(server: str, realm: str) -> None:
    """Begin a ledger in the realm."""
    store = Store(server, deadline=10.0, patience=30.0)
    ledger = RedisLedger(store, realm)
    await ledger.open()
    await ledger.aclose()
    await store.aclose()


def ended(arguments: list[str], server: str, realm: str) -> tuple[int, str, str]:
    """Run a command on the store, or without one where it names its own; its status, stdout and the last line."""
    asks = {param.name for param in dict(commands())[command_of(arguments)].params} >= {"store"}
    given = [] if not asks or {"--store", "--data"} & set(arguments) else ["--store", server, "--realm", realm]
    place = [] if not asks or "--data" in arguments else ["--data", "data"]
    done = within(*arguments, *given, *place)
    assert "Traceback" not in done.stderr
    return done.exit_code, done.stdout, done.stderr


def command_of(arguments: list[str]) -> str:
    """The name of the command that is run; the first one of a group where it is none."""
    names = dict(commands())
    for length in (2, 1):
        if " ".join(arguments[:length]) in names:
            return " ".join(arguments[:length])
    return next(name for name in names if name.startswith(arguments[0]))


def test_wrong_arguments_end_with_2(server: str, realm: str) -> None:
    """Whatever cannot be meant is one line that names it, stdout is empty, and nothing was begun."""
    for arguments, words in WRONG:
        status, out, err = ended(arguments, server, realm)
        assert (status, out) == (2, ""), (arguments, err)
        assert err.startswith(("Usage: ", "image-gateway: ")), (arguments, err)
        assert words in re.split(r"^(?:Error|image-gateway): ", err, flags=re.MULTILINE)[-1], (arguments, err)


def test_what_cannot_be_done_ends_with_1(server: str, realm: str) -> None:
    """Files, policies, ids and stores that are not as they should be are named in a line, stdout being empty."""
    for arguments, words in NOT_DONE:
        status, out, err = ended(arguments, server, realm)
        assert (status, out) == (1, ""), (arguments, err)
        assert err.startswith("image-gateway: "), (arguments, err)
        assert words in err, (arguments, err)


def test_a_store_that_is_away_is_one_line() -> None:
    """Every command that asks a store says where it looked for it, in one line."""
    for name, command in commands():
        if not any(param.name == "store" for param in command.params) or name in {"serve", "demo"}:
            continue
        done = within(*name.split(), *STORED.get(name, []), "--store", AWAY, "--data", "data")
        lines = done.stderr.splitlines()
        assert (done.exit_code, done.stdout, len(lines)) == (1, "", 1), (name, done.stderr)
        assert lines[0].startswith("image-gateway: "), name
        assert "/nowhere/at/all.sock" in lines[0], name


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_file_that_may_not_be_read(home: Path, server: str, realm: str) -> None:
    """A file of somebody else's is named, as wrong arguments."""
    home.chmod(0o755)
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        for arguments in (["keys", "import", "secret.csv"], ["reconcile", "secret.csv", "--provider", "main"]):
            status, out, err = ended(arguments, server, realm)
            assert (status, out) == (2, "")
            assert "secret.csv" in err.splitlines()[-1]
    finally:
        os.setresuid(0, 0, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_user_without_a_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container under any number for a user: data has no place by default, and the option is named."""
    for variable in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    asking = {
        "keys create": ["--project", "team"],
        "explain": ["-", "--policy", "policy", "--project", "team"],
        "serve": ["--policy", "policy"],
        "demo": [],
    }
    home.chmod(0o755)
    os.setresuid(STRANGER, STRANGER, 0)
    try:
        for name, arguments in asking.items():
            done = within(*name.split(), *arguments, "--store", AWAY)
            assert (done.exit_code, done.stdout) == (2, ""), (name, done.stderr)
            assert "Invalid value for '--data': '~/.local/share/image-gateway" in done.stderr.splitlines()[-1], name
        asked = {"COMPLETE": "bash_complete", "COMP_WORDS": "image-gateway spend --form", "COMP_CWORD": "2"}
        with monkeypatch.context() as shell:
            for variable, text in asked.items():
                shell.setenv(variable.replace("COMPLETE", VARIABLE), text)
            assert within().stdout == "plain,--format\n"
    finally:
        os.setresuid(0, 0, 0)


def test_the_statuses_are_documented() -> None:
    """The reference has a row for each status that commands end with, and no other."""
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

    assert re.findall(r"^\| (\d+) \|", text.partition("\n## ")[0], re.MULTILINE) == ["0", "1", "2", "130", "143"]
