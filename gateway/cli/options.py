"""Options that several commands share; each has an IMAGE_GATEWAY_* variable."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from gateway.ledger.names import Names

Command = TypeVar("Command", bound=Callable[..., Any])

DEFAULT_REALM = "main"
EMBEDDED = "embedded:"


class Fatal(click.ClickException):
    """Ends a command with one line on stderr and exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the line."""
        click.echo(f"image-gateway: {self.format_message()}", file=file, err=file is None)


class Misused(Fatal):
    """Ends a command that was asked for something that does not exist: one line on stderr, exit status 2."""

    exit_code = 2


def default_data() -> Path:
    """Where data lies unless said otherwise: the user's data directory."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "image-gateway"


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Apply several options as one decorator, the first on top of the help text."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def log_level_option(default: str) -> Callable[[Command], Command]:
    """Return `--log-level` with a default."""
    levels = click.Choice(["debug", "info", "warning", "error"])
    variable = "IMAGE_GATEWAY_LOG_LEVEL"
    return click.option("--log-level", default=default, show_default=True, envvar=variable, type=levels, help="Logs.")


def _realm(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        Names(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


policy_option = click.option(
    "--policy",
    required=True,
    envvar="IMAGE_GATEWAY_POLICY",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of policy YAML files.",
)
store_options = together(
    click.option(
        "--store",
        default=EMBEDDED,
        show_default=True,
        envvar="IMAGE_GATEWAY_STORE",
        help="redis://…, rediss://…, unix://…, or embedded: (a Valkey server of our own in the data directory).",
    ),
    click.option(
        "--data",
        default=default_data,
        show_default="the user's data directory",
        envvar="IMAGE_GATEWAY_DATA",
        type=click.Path(file_okay=False, path_type=Path),
        help="Directory for the embedded store and the key pepper.",
    ),
    click.option(
        "--realm",
        default=DEFAULT_REALM,
        show_default=True,
        envvar="IMAGE_GATEWAY_REALM",
        callback=_realm,
        help="Name under which all keys lie in the store; gateways that share money share a realm.",
    ),
)
listen_options = together(
    click.option("--host", default="127.0.0.1", show_default=True, envvar="IMAGE_GATEWAY_HOST", help="Data plane."),
    click.option(
        "--port",
        default=8080,
        show_default=True,
        envvar="IMAGE_GATEWAY_PORT",
        type=click.IntRange(0, 65535),
        help="Data plane.",
    ),
    click.option(
        "--admin-port",
        default=9090,
        show_default=True,
        envvar="IMAGE_GATEWAY_ADMIN_PORT",
        type=click.IntRange(0, 65535),
        help="Admin plane: /metrics and /admin.",
    ),
)

export_option = click.option(
    "--export",
    multiple=True,
    default=(),
    type=click.Path(exists=True, path_type=Path),
    help="An export's directory or file, for entries that were trimmed from the store. May be repeated.",
)
"""For whatever reads entries."""
