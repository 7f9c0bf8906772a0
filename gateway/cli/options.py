"""Options that several commands share; each has an IMAGE_GATEWAY_* variable."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar

import click
from click.core import ParameterSource

from gateway.cli.numbers import Whole
from gateway.cli.output import is_closed
from gateway.cli.variables import LINKED_PORT
from gateway.ledger.address import StoreAddress
from gateway.ledger.errors import StoreError
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


class Stopped(Fatal):
    """Ends a command that was stopped by a signal: one line on stderr, and 128 and the signal's number."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # click reads it from the instance; the status depends on the signal


def check_output(what: str) -> None:
    """Raise Fatal where stdout was closed, before a command begins that nobody would be shown `what` of."""
    if is_closed():
        raise Fatal(f"stdout is closed: nobody would be shown {what}")


def os_words(error: OSError) -> str:
    """Return what the system says is wrong, with the file if it names one."""
    if error.errno == errno.EBADF and is_closed():
        return "stdout is closed: nobody would be shown what was asked for"
    if error.strerror is None:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror


def default_data() -> Path:
    """Where data lies unless said otherwise: the user's data directory; below `~` if the user has no home."""
    try:
        home = Path.home()
    except RuntimeError:
        home = Path("~")  # which --data refuses
    return Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share") / "image-gateway"


def demo_data() -> Path:
    """Where the demo's lies unless said otherwise: beside it, for what was played with is nobody's money."""
    return default_data().with_name("image-gateway-demo")


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Apply several options as one decorator, the first on top of the help text."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def log_level_option(default: str) -> Callable[[Command], Command]:
    """Return `--log-level` with a default."""
    levels = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)
    variable = "IMAGE_GATEWAY_LOG_LEVEL"
    return click.option("--log-level", default=default, show_default=True, envvar=variable, type=levels, help="Logs.")


def _realm(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        Names(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


def _store(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        if value != EMBEDDED:
            StoreAddress.parse(value)
    except StoreError as error:
        raise click.BadParameter(str(error)) from error
    return value


def check_folder(text: str) -> str:
    """Return the path of a directory, which may be none yet; BadParameter for one that was surely not meant.

    An empty text would be the directory in which the command was started, and no shell puts a home in place of `~`
    in a variable's file or behind a `=`.
    """
    if not text.strip():
        raise click.BadParameter("it is empty")
    if text.startswith("~"):
        raise click.BadParameter(f"{text!r} begins with ~, which stands for no directory here: give the whole path")
    return text


class _Folder(click.Path):
    """A directory, which may be none yet."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        check_folder(str(value))
        return super().convert(value, param, ctx)


def filled(_context: click.Context, _option: click.Parameter, value: str) -> str:
    """Return a text that says something."""
    if not value.strip():
        raise click.BadParameter("it is empty")
    return value


def store_options_at(data: Callable[[], Path], shown: str) -> Callable[[Command], Command]:
    """Return `--store`, `--data` and `--realm`, with where data lies by default and how help tells it."""
    return together(
        click.option(
            "--store",
            default=EMBEDDED,
            show_default=True,
            envvar="IMAGE_GATEWAY_STORE",
            callback=_store,
            metavar="URL",
            help="redis://, rediss://, redis+sentinel://, redis+cluster://, unix://, or embedded: (in --data).",
        ),
        click.option(
            "--data",
            default=data,
            show_default=shown,
            envvar="IMAGE_GATEWAY_DATA",
            type=_Folder(file_okay=False, path_type=Path),
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


policy_option = click.option(
    "--policy",
    required=True,
    envvar="IMAGE_GATEWAY_POLICY",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Directory of policy YAML files.",
)


class _Port(click.Option):
    """A port. What a cluster sets in its variable, for a service that is named image-gateway, is none."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what the variable says."""
        found = super().resolve_envvar_value(ctx)
        return None if found is not None and LINKED_PORT.match(found) else found


store_options = store_options_at(default_data, "the user's data directory")
listen_options = together(
    click.option("--host", default="127.0.0.1", show_default=True, envvar="IMAGE_GATEWAY_HOST", help="Data plane."),
    click.option(
        "--port",
        cls=_Port,
        default=8080,
        show_default=True,
        envvar="IMAGE_GATEWAY_PORT",
        type=Whole(0, 65535),
        help="Data plane.",
    ),
    click.option(
        "--admin-port",
        default=9090,
        show_default=True,
        envvar="IMAGE_GATEWAY_ADMIN_PORT",
        type=Whole(0, 65535),
        help="Admin plane: /metrics and /admin.",
    ),
)

_JSON = "gateway.cli.json"


def _as_json(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.meta[_JSON] = value


def _form(context: click.Context, _option: click.Parameter, value: str) -> str:
    """Return the form to show; what the command line says wins over what a variable says."""
    if not context.meta[_JSON] or value == "json":
        return value
    named = context.get_parameter_source("form") is ParameterSource.COMMANDLINE
    if named and context.get_parameter_source("json") is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--json and --format {value} do not go together.", context)
    return value if named else "json"


def format_option(*forms: str, envvar: str | None = None) -> Callable[[Command], Command]:
    """Return `--format`, the first of its words being the default, and `--json`, which is short for its `json`."""
    return together(
        click.option(
            "--format",
            "form",
            default=forms[0],
            show_default=True,
            envvar=envvar,
            type=click.Choice(forms),
            callback=_form,
            help="How to show it.",
        ),
        click.option(
            "--json",
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_as_json,
            help="The same as --format json.",
        ),
    )


json_option = click.option(
    "--json",
    is_flag=True,
    expose_value=False,
    callback=_as_json,
    help="One JSON document on stdout.",
)
"""For commands that do something; `wants_json` tells whether it was given."""


def wants_json() -> bool:
    """Tell whether the command that runs was given --json."""
    return bool(click.get_current_context().meta.get(_JSON))


def example(*lines: str) -> str:
    """Return the end of a command's help: how it is typed."""
    return "\n".join(
        ["\b", "Example:" if len(lines) == 1 else "Examples:", *(f"  image-gateway {line}" for line in lines)]
    )


export_option = click.option(
    "--export",
    multiple=True,
    default=(),
    type=click.Path(exists=True, path_type=Path),
    help="An export's directory or file, for entries that were trimmed from the store. May be repeated.",
)
"""For whatever reads entries."""
