"""Every command as it is misused: one clear line, no traceback, exit status 1, or 2 for wrong arguments."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from gateway import __version__
from gateway.ledger.embedded import embedded_store
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.sandbox.client import Sandbox
from tests import processes
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, fetch, wait_until
from tests.ports import free_port
from tests.processes import Done

POLICIES = Path(__file__).parents[2] / "policies"
COMMANDS = (
    "serve",
    "demo",
    "sandbox",
    "check",
    "keys",
    "keys create",
    "keys list",
    "keys revoke",
    "keys rotate",
    "callbacks",
    "callbacks list",
    "callbacks retry",
    "callbacks secret",
    "spend",
    "reconcile",
    "ledger",
    "ledger verify",
    "ledger rebuild",
    "ledger export",
    "ledger adjust",
)
BROKEN = """\
providers:
  main: {kind: openai, base_url: "https://api.example.com/v1", api_key: "${NO_SUCH_SECRET}"}
routes:
  main/gpt-image-2: {provider: man, modle: gpt-image-2}
job_types:
  hero: {routes: [main/gpt-image-2]}
projects:
  team:
    job_types: [heroo]
    budgets: [{window: day, limit: 5}]
"""
PEPPER = "another-pepper-of-sufficient-length"


class Terminal:
    """A user's shell in an empty directory, with an environment that has nothing of ours."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("IMAGE_GATEWAY_", "OPENAI_"))}
        self.environ = {**kept, "HOME": str(home), "XDG_DATA_HOME": str(home / "share"), "COLUMNS": "200"}

    def run(self, *arguments: str, environ: Mapping[str, str] | None = None) -> Done:
        """Run the command to its end."""
        return processes.run(*arguments, environ={**self.environ, **(environ or {})}, cwd=self.home)

    def fails(self, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        """Run a command that cannot be done; returns its one line on stderr."""
        done = self.run(*arguments, environ=environ)
        lines = [line for line in done.stderr.splitlines() if not line.startswith('{"ts"')]
        assert (done.returncode, len(lines), done.stdout) == (1, 1, ""), done
        assert lines[0].startswith("image-gateway: ")
        return lines[0]

    def refuses(self, *arguments: str, environ: Mapping[str, str] | None = None) -> str:
        """Run a command with wrong arguments; returns the line that says what is wrong."""
        done = self.run(*arguments, environ=environ)
        assert done.returncode == 2, done
        assert "Traceback" not in done.stderr
        assert done.stdout == ""
        *usage, last = done.stderr.strip().splitlines()
        assert usage[0].startswith("Usage: ")
        return last


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    """A terminal of the test's own."""
    return Terminal(tmp_path)


@pytest.fixture
def taken() -> Iterator[str]:
    """A port where somebody listens already, and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield str(sock.getsockname()[1])


def serve(policy: Path | str, *options: str) -> tuple[str, ...]:
    """The arguments of `serve` on free ports."""
    return ("serve", "--policy", str(policy), "--port", "0", "--admin-port", "0", *options)


def written(folder: Path, text: str) -> Path:
    """A policy directory with one file."""
    folder.mkdir()
    (folder / "policy.yaml").write_text(text)
    return folder


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_helps(terminal: Terminal, command: str) -> None:
    """`-h` of every command says what it does, and exits with 0."""
    done = terminal.run(*command.split(), "-h")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: image-gateway {command}".rstrip())


def test_the_version_is_told(terminal: Terminal) -> None:
    """`--version` prints the package's version."""
    assert terminal.run("--version").stdout == f"image-gateway, version {__version__}\n"


@pytest.mark.parametrize("command", [[], ["keys"]])
def test_without_a_command_the_choice_is_shown(terminal: Terminal, command: list[str]) -> None:
    """A group alone lists what it offers, on stderr, as wrong arguments."""
    done = terminal.run(*command)

    assert done.returncode == 2
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["serve"], "Missing option '--policy'"),
        (["serve", "--frob"], "No such option '--frob'"),
        (["serve", "--policy", "nowhere"], "'nowhere' does not exist"),
        (["serve", "--policy", ".", "--port", "99999"], "99999 is not in the range"),
        (["serve", "--policy", ".", "--workers", "0"], "0 is not in the range"),
        (["serve", "--policy", ".", "--log-level", "loud"], "'loud' is not one of"),
        (["serve", "--policy", ".", "--public-url", "https://images.example.com/?a=b"], "must not have a query string"),
        (["demo", "--log-level", "loud"], "'loud' is not one of"),
        (["demo", "--realm", "Main Street"], "lower-case letters"),
        (["check"], "Missing argument 'DIRECTORY'"),
        (["check", "nowhere"], "'nowhere' does not exist"),
        (["keys", "create"], "Missing option '--project'"),
        (["keys", "create", "--project", ""], "cannot be a name in a policy"),
        (["keys", "create", "--project", "two words"], "a name is 1 to 100 of A-Z a-z 0-9 . _ / -"),
        (["keys", "create", "--project", "p", "--name", "two\nlines"], "one line"),
        (["keys", "revoke"], "Missing argument 'KEY_ID'"),
        (["keys", "rotate", "key_x", "--grace", "-1"], "-1.0 is not in the range"),
        (["spend", "--window", "year"], "'year' is not one of"),
        (["spend", "--format", "xml"], "'xml' is not one of"),
        (["spend", "--realm", ""], "lower-case letters"),
        (["sandbox", "--port", "no"], "'no' is not a valid whole number"),
        (["spend", "--data", ""], "'--data': it is empty"),
        (["ledger", "adjust", "req_x", "--cost", "1", "--reason", " "], "'--reason': it is empty"),
    ],
    ids=lambda value: " ".join(value).replace("\n", " ") if isinstance(value, list) else "",
)
def test_wrong_arguments(terminal: Terminal, arguments: list[str], words: str) -> None:
    """Wrong arguments end with status 2 and a line that names what is wrong."""
    assert words in terminal.refuses(*arguments)


def test_variables_are_checked_like_options(terminal: Terminal) -> None:
    """An option given by its environment variable meets the same checks."""
    line = terminal.refuses("demo", environ={"IMAGE_GATEWAY_PORT": "abc"})
    below = terminal.refuses("spend", environ={"IMAGE_GATEWAY_SPEND_WINDOW": "year"})

    assert line == "Error: Invalid value for '--port' (IMAGE_GATEWAY_PORT): 'abc' is not a valid whole number."
    assert "'--window' (IMAGE_GATEWAY_SPEND_WINDOW): 'year' is not one of" in below


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_broken_policy_is_told_whole(terminal: Terminal, command: str) -> None:
    """Every problem comes in one run, a line each, with file, line, key and the nearest word that is known."""
    folder = written(terminal.home / "broken", BROKEN)
    done = terminal.run("check", "broken") if command == "check" else terminal.run(*serve(folder.name))
    said = done.stdout if command == "check" else done.stderr

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    places = re.findall(r"^broken/policy\.yaml:(\d+): ([^ ]+): ", said, re.MULTILINE)
    keys = {(int(line), key) for line, key in places}
    assert {
        (4, "routes.main/gpt-image-2.provider"),
        (4, "routes.main/gpt-image-2.modle"),
        (9, "projects.team.job_types[0]"),
        (10, "projects.team.budgets[0].limit"),
    } <= keys
    for suggestion in ("(did you mean main?)", "(did you mean model?)", "(did you mean hero?)"):
        assert suggestion in said


def test_an_empty_policy_is_refused(terminal: Terminal) -> None:
    """A directory without a policy file is a problem, not a gateway that serves nobody."""
    (terminal.home / "empty").mkdir()
    done = terminal.run("check", "empty")

    assert done.returncode == 1
    assert "no file ends in .yaml" in done.stdout


def test_a_missing_secret_stops_serving_but_not_checking(terminal: Terminal) -> None:
    """`serve` names file, line and variable and ends; `check`, on a machine without secrets, only warns."""
    served, checked = terminal.run(*serve(POLICIES / "default")), terminal.run("check", str(POLICIES / "default"))

    assert served.returncode == 1
    assert re.search(r"providers\.yaml:\d+: .*environment variable OPENAI_API_KEY is not set", served.stderr)
    assert "Traceback" not in served.stderr
    assert checked.returncode == 0
    assert checked.stdout.splitlines()[-1].startswith("ok: 2 projects")


@pytest.mark.parametrize("name", ["default", "demo"])
def test_shipped_policies_check(terminal: Terminal, name: str) -> None:
    """What is shipped to start from has no problem, and with its variables set no warning either."""
    environ = {
        "OPENAI_API_KEY": "sk-test",
        "IMAGE_GATEWAY_SANDBOX_URL": "http://127.0.0.1:1",
        "IMAGE_GATEWAY_SANDBOX_KEY": "sk-test",
    }
    done = terminal.run("check", str(POLICIES / name), environ=environ)

    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"ok: 2 projects, 4 job types, 3 routes, .* \(digest [0-9a-f]{16}\)\n", done.stdout)


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_port_in_use(terminal: Terminal, taken: str, option: str) -> None:
    """`serve` names the port that somebody else has."""
    arguments = serve(POLICIES / "default", option, taken)

    assert f"port {taken} on 127.0.0.1 is in use" in terminal.fails(*arguments, environ={"OPENAI_API_KEY": "sk-test"})


def test_a_port_in_use_beside_the_demo_and_the_sandbox(terminal: Terminal, taken: str) -> None:
    """`sandbox` and `demo` say the same."""
    ports = ("--port", "0", "--admin-port", "0")

    assert f"port {taken} on 127.0.0.1 is in use" in terminal.fails("sandbox", "--port", taken)
    assert f"port {taken} on 127.0.0.1 is in use" in (line := terminal.fails("demo", *ports, "--sandbox-port", taken))
    assert "--sandbox-port" in line


SERVE = serve(POLICIES / "default")


@pytest.mark.parametrize(
    "command",
    [("keys", "list"), ("spend",), SERVE, (*SERVE, "--workers", "3")],
    ids=["keys", "spend", "serve", "workers"],
)
def test_a_store_that_is_not_there(terminal: Terminal, command: tuple[str, ...]) -> None:
    """Nobody listens: one line with the address and the remedy, the password left out."""
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    line = terminal.fails(*command, "--store", url, environ={"OPENAI_API_KEY": "sk-test"})

    assert "***@127.0.0.1" in line
    assert "embedded:" in line
    assert "hunter2" not in line


def test_a_store_that_does_not_answer(terminal: Terminal, taken: str) -> None:
    """Somebody listens and never answers: `serve` gives up after its deadline instead of hanging."""
    arguments = serve(POLICIES / "default", "--store", f"redis://127.0.0.1:{taken}")

    assert "no answer" in terminal.fails(*arguments, environ={"OPENAI_API_KEY": "sk-test"})


def test_a_ledger_that_cannot_be_read(terminal: Terminal) -> None:
    """The store is there but refuses to answer: `spend` says so in one line, without a traceback."""

    async def spoil(url: str) -> None:
        store = Store(url)
        await store.execute("SET", Names().entries, "junk")
        await store.aclose()

    with embedded_store(terminal.home / "store") as url:
        asyncio.run(spoil(url))
        assert "WRONGTYPE" in terminal.fails("spend", "--store", url)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://x", "must be redis://"),
        ("localhost:6379", "must be redis://"),
        ("embedded:/somewhere", "must be redis://"),
        ("redis+cluster://x/3", "database 0 alone"),
        ("redis+sentinel://x", "name of the service"),
        ("redis://h:port", "HOST:PORT"),
        ("redis://[::1", "malformed"),
    ],
)
def test_a_wrong_store_url(terminal: Terminal, url: str, words: str) -> None:
    """A URL that cannot be a store's is a wrong argument, found before anything is begun."""
    assert words in terminal.refuses("spend", "--store", url)


def test_a_data_directory_that_cannot_be(terminal: Terminal) -> None:
    """The embedded store needs a directory; a file in its place and one that cannot be made are told apart."""
    (terminal.home / "file").write_text("")

    assert "is a file" in terminal.refuses("spend", "--data", "file")
    assert "cannot be used" in terminal.fails("keys", "create", "--project", "a", "--data", "file/below")


def test_an_assets_directory_that_cannot_be(terminal: Terminal) -> None:
    """Refused before anything is served, as without it answers and images would be lost one by one."""
    (terminal.home / "file").write_text("")

    line = terminal.fails(*serve(POLICIES / "default", "--assets", "file"), environ={"OPENAI_API_KEY": "sk-test"})
    assert line == "image-gateway: --assets: file is no directory"


def test_the_admin_plane_beyond_loopback_needs_a_token(terminal: Terminal) -> None:
    """Metrics and spend are not shown to the network by mistake."""
    arguments = serve(POLICIES / "default", "--admin-host", "0.0.0.0")

    line = terminal.fails(*arguments, environ={"OPENAI_API_KEY": "sk-test"})
    assert "IMAGE_GATEWAY_ADMIN_TOKEN" in line


def test_the_data_directory_follows_xdg(terminal: Terminal) -> None:
    """Without `--data`, files lie in XDG_DATA_HOME or ~/.local/share, readable by their owner alone."""
    terminal.run("keys", "create", "--project", "team")
    elsewhere = terminal.run("keys", "create", "--project", "team", environ={"XDG_DATA_HOME": ""})

    assert elsewhere.returncode == 0
    for base in (terminal.home / "share", terminal.home / ".local" / "share"):
        assert (base / "image-gateway" / "pepper").stat().st_mode & 0o077 == 0
        assert (base / "image-gateway").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("arguments", [("create", "--project", "team"), ("import", "keys.csv")], ids=" ".join)
def test_a_store_that_a_key_begins_is_told(terminal: Terminal, arguments: tuple[str, ...]) -> None:
    """For whoever forgot the gateway's own --data; a store that was there is not spoken of."""
    (terminal.home / "keys.csv").write_text("project,name\nteam,web\n")
    first, again = terminal.run("keys", *arguments), terminal.run("keys", *arguments)

    assert (first.returncode, again.returncode) == (0, 0)
    assert f"image-gateway: began a new store in {terminal.home / 'share/image-gateway'}; a gateway" in first.stderr
    assert "began" not in again.stderr


def test_keys_from_birth_to_end(terminal: Terminal) -> None:
    """A key comes alone on stdout, is never shown again, and its list tells live from revoked."""
    made = terminal.run("keys", "create", "--project", "team", "--name", "web", "--job-type", "hero")
    secret = made.stdout.strip()
    (row,) = json.loads(terminal.run("keys", "list", "--format", "json").stdout)
    rotated = terminal.run("keys", "rotate", row["id"])
    later = terminal.run("keys", "rotate", row["id"], "--grace", "3600")
    revoked = terminal.run("keys", "revoke", row["id"])
    rows = json.loads(terminal.run("keys", "list", "--format", "json").stdout)
    table = terminal.run("keys", "list")

    assert made.stdout == f"{secret}\n"
    assert re.fullmatch(r"igw_[0-9A-Za-z]{36}", secret)
    assert row["id"] in made.stderr
    assert (row["project"], row["name"], row["job_type"], row["state"]) == ("team", "web", "hero", "live")
    assert re.fullmatch(r"igw_[0-9A-Za-z]{36}\n", rotated.stdout)
    assert later.returncode == revoked.returncode == 0
    assert revoked.stdout == ""
    assert [each["state"] for each in rows] == ["revoked", "live", "live"]
    for output in (made.stderr, rotated.stderr, table.stdout, table.stderr, json.dumps(rows)):
        assert "igw_" not in output
    assert all(each["id"] in table.stdout for each in rows)


def test_keys_that_do_not_exist(terminal: Terminal) -> None:
    """Revoking or rotating an unknown id is one line."""
    terminal.run("keys", "create", "--project", "team")

    for action in ("revoke", "rotate"):  # what was given may be a key, which is never repeated
        words = "image-gateway: there is no key of that id: ids begin with key_, and are listed"
        assert terminal.fails("keys", action, "igw_pasted") == words


def test_a_wrong_pepper(terminal: Terminal) -> None:
    """With another pepper no key would be recognised, so every command that needs one says so; a short one too."""
    create = ("keys", "create", "--project", "team")
    terminal.run(*create)
    environ = {"IMAGE_GATEWAY_PEPPER": PEPPER, "OPENAI_API_KEY": "sk-test"}

    assert "made with another pepper" in terminal.fails(*create, environ=environ)
    assert "made with another pepper" in terminal.fails(*serve(POLICIES / "default"), environ=environ)
    assert "too short" in terminal.fails(*create, environ={"IMAGE_GATEWAY_PEPPER": "short"})


def test_nothing_spent_is_a_report_too(terminal: Terminal) -> None:
    """On a fresh store every format tells of no spend, with its columns, the table in words."""
    terminal.run("keys", "create", "--project", "team")
    rows = list(csv.reader(io.StringIO(terminal.run("spend", "--format", "csv").stdout)))

    assert rows == [
        ["project", "job_type", "route", "requests", "images"]
        + [f"{name}_usd" for name in ("official", "route", "internal", "savings", "unconfirmed")]
    ]
    assert json.loads(terminal.run("spend", "--format", "json").stdout)["total"]["route_usd"] == "0.00"
    assert terminal.run("spend").stdout == "Spend, this month: No requests in this period.\n"


def test_reading_makes_no_store(terminal: Terminal) -> None:
    """A mistyped data directory is told of, not made."""
    for command in (("spend",), ("keys", "list"), ("keys", "revoke", "key_a"), ("keys", "rotate", "key_a")):
        assert "there is no store in" in terminal.fails(*command, "--data", "mistyped")
    assert not (terminal.home / "mistyped").exists()


def test_reading_falls_back_to_the_demo(terminal: Terminal) -> None:
    """Where the demo's store is all there is, what only reads reads that, and says so; what writes does not."""
    played = str(terminal.home / "share/image-gateway-demo")
    key = terminal.run("keys", "create", "--project", "demo", "--data", played, "--json").stdout
    adjust = ("ledger", "adjust", "req_a", "--cost", "1", "--reason", "r")
    for command in (("spend", "--json"), ("keys", "list", "--json"), ("ledger", "verify", "--json")):
        done = terminal.run(*command)
        named = terminal.run(*command, "--data", played)
        assert (done.returncode, done.stdout, named.stderr) == (named.returncode, named.stdout, "")
        assert done.stderr.endswith(f"; this is the demo's, in {played}\n"), done
        assert "there is no store in" in terminal.fails(*command, environ={"IMAGE_GATEWAY_DATA": "elsewhere"})
        assert "there is no store in" in terminal.fails(*command, "--store", "embedded:")
    for writes in (adjust, ("keys", "revoke", json.loads(key)["id"]), ("keys", "rotate", json.loads(key)["id"])):
        assert "there is no store in" in terminal.fails(*writes)
    terminal.run("keys", "create", "--project", "team")
    assert [each["project"] for each in json.loads(terminal.run("keys", "list", "--json").stdout)] == ["team"]


def test_spend_by_what_does_not_exist(terminal: Terminal) -> None:
    """A wrong `--by` names what there is."""
    done = terminal.run("spend", "--by", "project,colour")
    line = done.stderr

    assert done.returncode == 2
    assert "'colour'" in line
    assert "job_type" in line
    assert "tag:NAME" in line


def test_spend_beside_a_running_gateway(stack: Stack) -> None:
    """All formats tell the same figures, by project, tag and window, while the gateway uses the store."""
    small = {"model": "gpt-image-2", "prompt": "a boat", "quality": "low", "size": "1024x1024"}
    for project, tags in (("team", "campaign=spring"), ("team", ""), ("other", "")):
        assert (
            stack.post("/v1/images/generations", small, project=project, headers={"x-gateway-tags": tags}).status == 200
        )
    report = json.loads(stack.command("spend", "--format", "json", "--by", "project", "--window", "total").stdout)
    by_tag = stack.spend("--by", "tag:campaign", "--project", "team", "--window", "hour")
    text = stack.command("spend", "--format", "csv", "--by", "project", "--window", "total").stdout
    table = stack.command("spend", "--by", "project", "--window", "total").stdout

    rows = {row["project"]: row for row in report["rows"]}
    assert {name: row["requests"] for name, row in rows.items()} == {"team": 2, "other": 1}
    assert report["total"]["images"] == 3
    assert {row["tag:campaign"]: row["images"] for row in by_tag} == {"spring": 1, "-": 1}
    assert {row["project"]: row["route_usd"] for row in csv.DictReader(io.StringIO(text))} == {
        name: row["route_usd"] for name, row in rows.items()
    }
    for row in (*rows.values(), report["total"]):
        assert row["route_usd"] in table


def test_the_sandbox_alone(terminal: Terminal, sandbox: Sandbox) -> None:
    """`sandbox` prints its URL, serves it with the key given, and ends on Ctrl-C with status 0."""
    command = [sys.executable, "-m", "gateway", "sandbox", "--port", "0", "--key", "sk-mine", "--latency", "0"]
    environ = {**terminal.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = re.search(r"http://\S+:\d+", process.stdout.readline())
        assert url is not None
        body = {"model": "gpt-image-2", "prompt": "a boat", "quality": "low", "size": "1024x1024"}
        answer = fetch(f"{url[0]}/openai/v1/images/generations", body=body, headers={"authorization": "Bearer sk-mine"})
        bill = fetch(f"{url[0]}/sandbox/bill").json
        process.send_signal(2)

        assert process.wait(timeout=60) == 0
    assert answer.status == 200
    assert len(bill["lines"]) == 1


def test_serve_says_where_it_listens_and_ends_on_ctrl_c(terminal: Terminal, sandbox: Sandbox) -> None:
    """With free ports `serve` tells the real ones and the policy's digest; Ctrl-C ends it with status 0, quietly."""
    folder = written(terminal.home / "policy", ONE_ACCOUNT)
    environ = {**terminal.environ, "SANDBOX_URL": sandbox.url, "SANDBOX_KEY": sandbox.api_key, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "gateway", *serve(folder), "--log-level", "warning"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        urls = re.findall(r"http://127\.0\.0\.1:\d+", line)
        wait_until(lambda: fetch(f"{urls[0]}/readyz").status == 200, what="readiness")
        metrics = fetch(f"{urls[1]}/metrics").body.decode()
        process.send_signal(2)

        assert process.wait(timeout=60) == 0
        said = [json.loads(line)["event"] for line in process.stderr.read().splitlines()]
        assert [line for line in said if not line.startswith("policy warning: ")] == []
    digest = re.search(r"policy ([0-9a-f]{16});", line)
    assert digest is not None
    assert f"; store embedded: in {terminal.home / 'share' / 'image-gateway'}; " in line
    assert f'image_gateway_policy_info{{digest="{digest[1]}"}} 1.0' in metrics
