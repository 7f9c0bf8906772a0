"""The command as a program: what it does when its output cannot be written, and when somebody stops it."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource

from gateway.cli.options import Fatal, Stopped, os_words
from gateway.cli.output import drop_output, open_streams
from gateway.cli.stopping import stoppable
from gateway.cli.variables import unread, variable_of

_SERVING = (["serve"], ["demo"], ["sandbox"])
"""Commands that go on until they are stopped, whoever reads what they say at their start."""
_SERVE = "serve"
"""The command that SIGHUP tells to read its policy again; its default is to end a program."""


class Program(click.Group):
    """The group of all commands."""

    _serves = False
    """Whether the command that is run is one that serves."""

    def main(self, args: Sequence[str] | None = None, *others: Any, **named: Any) -> Any:
        """Run it, with streams to read and to write."""
        name = (sys.argv[1:] if args is None else args)[:1]
        self._serves = [*name] in _SERVING
        open_streams(wanted=not self._serves)
        return super().main(args, *others, **named)

    def make_context(self, *given: Any, **named: Any) -> click.Context:
        """Read the program's own options; `--help` and `--version` are printed here."""
        with _in_one_line():
            return super().make_context(*given, **named)

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
            with stoppable(), _in_one_line():
                try:
                    return super().invoke(context)
                finally:
                    sys.stdout.flush()
        except click.UsageError as error:
            error.ctx = error.ctx or context  # the parser of options knows no command whose usage could be shown
            if isinstance(error, click.BadParameter):
                _name_variable(error)
            raise
        except Stopped:
            if self._serves:  # that is how they end, also where they had not begun to
                return None
            raise


@contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        drop_output()
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
