"""Options that say what is told of the gateway's work, and how: logs and traces."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from gateway.cli.options import Fatal, log_level_option, together
from gateway.observe.log import configure_logging
from gateway.observe.redact import Redactor
from gateway.observe.tracing import Tracing, TracingUnavailable, open_tracing

Result = TypeVar("Result")

_options = together(
    log_level_option("info"),
    click.option(
        "--log-format",
        default="json",
        show_default=True,
        type=click.Choice(["json", "text"]),
        envvar="IMAGE_GATEWAY_LOG_FORMAT",
        help="JSON lines, or lines for people.",
    ),
    click.option(
        "--tracing/--no-tracing",
        default=False,
        show_default=True,
        envvar="IMAGE_GATEWAY_TRACING",
        help="Send spans by OTLP as the OTEL_* variables say; needs image-gateway[tracing].",
    ),
)


@dataclass(frozen=True, slots=True)
class Observing:
    """What these options say."""

    level: str
    text: bool
    tracing: bool

    @contextlib.contextmanager
    def running(self, redactor: Redactor) -> Iterator[Tracing | None]:
        """Log, and trace if that was asked for; Fatal if it cannot be had."""
        pipe = configure_logging(self.level, sys.stderr, redactor, text=self.text)
        try:
            if not self.tracing:
                yield None
                return
            tracing = _opened()
            tracing.label(pipe)
            try:
                yield tracing
            finally:
                tracing.close()
        finally:
            pipe.stop()


def _opened() -> Tracing:
    try:
        return open_tracing()
    except TracingUnavailable as error:
        raise Fatal(f"--tracing: {error}") from error


def observing_options(command: Callable[..., Result]) -> Callable[..., Result]:
    """Add the options to a command; what they say comes as one argument, `observing`."""

    @functools.wraps(command)
    def combined(*arguments: Any, log_level: str, log_format: str, tracing: bool, **others: Any) -> Result:
        return command(*arguments, observing=Observing(log_level, log_format == "text", tracing), **others)

    return _options(combined)
