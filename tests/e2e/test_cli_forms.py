"""Every command that shows something shows it as JSON by `--json` as by `--format json`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.ledger.embedded import embedded_store
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store

POLICY = """
providers: {main: {kind: openai, base_url: "https://images.example.com/v1"}}
routes: {main/gpt-image-2: {provider: main, model: gpt-image-2}}
job_types: {draft: {routes: [main/gpt-image-2]}}
projects: {team: {job_types: [draft], budgets: [{window: day, limit: "10"}]}}
"""
ARGUMENTS = {
    "explain": ["--policy", "policy", "--project", "team", "request.json"],
    "keys list": [],
    "callbacks list": [],
    "spend": [],
    "reconcile": ["--provider", "main", "--until", "2026-11-03", "invoice.csv"],
    "replay": ["--policy", "policy", "--since", "2026-11-01"],
    "ledger verify": [],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with all that the commands read, and a store that runs meanwhile."""
    home = tmp_path_factory.mktemp("home")
    (home / "policy").mkdir()
    (home / "policy" / "policy.yaml").write_text(POLICY)
    (home / "request.json").write_text('{"prompt": "a lighthouse"}')
    (home / "invoice.csv").write_text("request_id,cost_usd,timestamp\nreq_1,0.04,2026-11-02\n")
    with embedded_store(home / "data") as url:
        asyncio.run(_opened(url))
        yield home


async def _opened(url: str) -> None:
    store = Store(url, deadline=10.0)
    await RedisLedger(store).open()
    await store.aclose()


def showing(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    """The name of every command that can show what it has as JSON."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from showing(inner, (*path, name))
    elif any("--format" in each.opts for each in command.params):
        yield " ".join(path)


def ran(home: Path, command: str, *options: str, **environ: str) -> tuple[int, str, str]:
    """Run a command in the directory; its exit status, stdout and stderr."""
    arguments = [*command.split(), *ARGUMENTS[command], *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        done = CliRunner().invoke(main, arguments, env={"IMAGE_GATEWAY_DATA": str(home / "data"), **environ})
    return done.exit_code, done.stdout, done.stderr


def test_every_command_that_shows_something_is_looked_at() -> None:
    """The table above has each command with `--format`, so that a new one is tried too."""
    assert set(showing(main)) == set(ARGUMENTS)


@pytest.mark.parametrize("command", ARGUMENTS)
def test_json_is_short_for_format_json(home: Path, command: str) -> None:
    """Both print the same JSON and end alike, by option and by variable; `--json` with another form is refused."""
    short, long = ran(home, command, "--json"), ran(home, command, "--format", "json")
    variable = f"IMAGE_GATEWAY_{command.upper().replace(' ', '_')}_JSON"

    assert short == long
    assert ran(home, command, **{variable: "1"}) == long
    assert isinstance(json.loads(short[1]), dict | list)
    other = "text" if command == "ledger verify" else "table"
    assert ran(home, command, "--format", other, **{variable: "1"}) == ran(home, command, "--format", other)
    status, _, message = ran(home, command, "--json", "--format", other)
    assert (status, f"--json and --format {other} do not go together" in message) == (2, True)
