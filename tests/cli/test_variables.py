"""Variables with our prefix that nothing reads are told before a command begins; it runs all the same."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.cli.options import listen_options, log_level_option
from gateway.cli.variables import PLAIN, PREFIX, read_by, unread
from tests.cli.command import run

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("STORE_URL", "STORE"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("MAX_REQUEST", "MAX_REQUESTS"),
        ("PEPER", "PEPPER"),
        ("KEYS_CREATE_PROJET", "KEYS_CREATE_PROJECT"),
    ],
)
def test_a_misspelt_variable_is_told_with_the_one_that_was_meant(name: str, near: str) -> None:
    """Whatever reads it: the command that runs, another one, or no option at all."""
    line = f"nothing reads the variable IMAGE_GATEWAY_{name} (did you mean IMAGE_GATEWAY_{near}?)"

    assert unread(main, {f"IMAGE_GATEWAY_{name}": "x", "IMAGE_GATEWAY_STORE": "x", "PATH": "x"}) == [line]


def test_every_variable_that_the_program_names_is_known() -> None:
    """The source, and what is set beside it; `_IMAGE_GATEWAY_COMPLETE` is the shell's."""
    files = [*ROOT.glob("gateway/**/*.py"), *ROOT.glob("policies/**/*.yaml"), *ROOT.glob("docs/cli.md")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files if path.name != "variables.py")
    names = set(re.findall(r"\b(?<!_)IMAGE_GATEWAY_(?!INTERNAL_)[A-Z_]*[A-Z]\b", text))

    assert {"IMAGE_GATEWAY_STORE", "IMAGE_GATEWAY_FAILPOINT"} < names
    assert unread(main, dict.fromkeys(names, "x")) == []


def test_the_names_without_a_command_are_those_that_are_read() -> None:
    """Each plain one is read by an option, or where no option is; each that is read is plain or names its command."""
    named = tuple(f"{PREFIX}{name.upper()}_" for name in main.commands)
    plain = {name for name in read_by(main) if not name.startswith(named)}
    elsewhere = {f"{PREFIX}{name}" for name in ("ADMIN_TOKEN", "PEPPER", "FAILPOINT", "SANDBOX_URL")}

    assert plain | elsewhere == PLAIN


def test_links_of_a_cluster_are_not_told() -> None:
    """A service named image-gateway, or image-gateway-valkey, has some in every pod of its namespace."""
    links = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "VALKEY_SERVICE_HOST": "10.0.0.2",
        "VALKEY_PORT": "tcp://10.0.0.2:6379",
    }

    assert unread(main, {f"IMAGE_GATEWAY_{name}": value for name, value in links.items()}) == []


def test_a_worker_leaves_it_to_its_supervisor() -> None:
    """Else each process of `serve --workers` would tell it again."""
    assert unread(main, {"IMAGE_GATEWAY_INTERNAL_ROLE": "data", "IMAGE_GATEWAY_STORE_URL": "x"}) == []


def test_a_command_tells_and_goes_on(tmp_path: Path) -> None:
    """On stderr, so that what was asked for stays alone on stdout."""
    done = run("completion", "bash", IMAGE_GATEWAY_STORE_URL="redis://hush", IMAGE_GATEWAY_VERSION="1")

    assert done.returncode == 0
    assert done.stdout.startswith("_image_gateway_completion")
    assert "STORE_URL (did you mean IMAGE_GATEWAY_STORE?) (warning)" in done.stderr
    assert "hush" not in done.stderr


@pytest.mark.parametrize(("said", "port"), [("tcp://10.0.0.1:80", 8080), ("8090", 8090), ("", 8080)])
def test_a_port_that_a_cluster_sets_is_none(said: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that it has for a service named image-gateway is the one of `--port`."""

    @click.command()
    @listen_options
    def listen(**ports: object) -> None:
        click.echo(str(ports["port"]))

    monkeypatch.setenv("IMAGE_GATEWAY_PORT", said)
    done = CliRunner().invoke(listen)
    assert (done.exit_code, done.output.strip()) == (0, str(port))


@pytest.mark.parametrize("said", ["INFO", "Info", "info"])
def test_a_log_level_in_any_case(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs' variables have it in capitals."""

    @click.command()
    @log_level_option("warning")
    def tell(log_level: str) -> None:
        click.echo(log_level)

    monkeypatch.setenv("IMAGE_GATEWAY_LOG_LEVEL", said)
    assert CliRunner().invoke(tell).output == "info\n"
    assert CliRunner().invoke(tell, ["--log-level", said]).output == "info\n"
