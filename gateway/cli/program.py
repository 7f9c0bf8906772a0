"""The command as a program: what it does when its output cannot be written, and when somebody stops it."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gateway.cli.options import Fatal, Stopped, os_words
from gateway.cli.variables import unread, variable_of

INTERRUPTED = 130
_SERVE = "serve"
"""The command that SIGHUP tells to read its policy again; its default is to end a program."""


class Program(click.Group):
    """The group of all commands."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **named: Any) -> Any:
        """Run it. What the terminal's encoding lacks is written as an escape, instead of ending the command."""
        # The interpreter has None for what a shell closed by `>&-`.
        sys.stdout = sys.stdout or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open
        sys.stderr = sys.stderr or Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - it stays open
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(args, *others, **named)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; first warn on stderr about IMAGE_GATEWAY_* variables that nothing reads."""
        if args[:1] == [_SERVE] and not context.resilient_parsing:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until it listens: loading the command alone takes a while
        found = super().resolve_command(context, args)
        if not context.resilient_parsing:
            for line in unread(self, os.environ):
                click.echo(f"image-gateway: {line} (warning)", err=True)
        return found

    def invoke(self, context: click.Context) -> Any:
        """Run a command; what ends it is one line on stderr, or none where nobody reads its output any more."""
        try:
            try:
                return super().invoke(context)
            finally:
                sys.stdout.flush()
        except click.BadParameter as error:
            _name_variable(error)
            raise
        except KeyboardInterrupt as error:
            raise Stopped("stopped", INTERRUPTED) from error
        except OSError as error:
            _drop_output()
            if error.errno == errno.EPIPE:
                raise
            raise Fatal(os_words(error)) from error


def _name_variable(error: click.BadParameter) -> None:
    """Have it say which variable a value came from: whoever typed the command did not type that."""
    option, context = error.param, error.ctx
    if option is None or context is None or error.param_hint is not None or option.name is None:
        return
    if context.get_parameter_source(option.name) is ParameterSource.ENVIRONMENT:
        error.param_hint = f"{option.get_error_hint(context)} ({variable_of(option, context)})"


def _drop_output() -> None:
    """Let go of what stdout did not take, else the interpreter would try once more at its end, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
