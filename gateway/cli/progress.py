"""How long work shows itself on stderr, and how it ends when somebody stops it."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from gateway.cli.stopping import stoppable
from gateway.ledger.progress import Step, told_to

SECONDS = 5.0
"""Between two lines where there is no terminal; what is done sooner says nothing."""
NOTHING_CHANGED = "nothing was changed"

_QUIET = "gateway.cli.quiet"


def _be_quiet(context: click.Context, _option: click.Parameter, value: bool) -> None:
    context.meta[_QUIET] = value


quiet_option = click.option(
    "--quiet",
    "-q",
    is_flag=True,
    expose_value=False,
    callback=_be_quiet,
    envvar="IMAGE_GATEWAY_QUIET",
    help="Show no progress on stderr.",
)
"""For every command that uses `watched`."""


class Lines:
    """A listener that writes a line at intervals (seconds), for logs and pipes."""

    def __init__(self, every: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._every = every
        self._clock = clock
        self._told = clock()

    def __call__(self, step: Step) -> None:
        """Tell of a step if the last one that was told is long enough ago."""
        now = self._clock()
        if now - self._told >= self._every:
            self._told = now
            share = "" if step.share is None else f", {step.share:.0%}"
            click.echo(f"{step.name}: {step.done:,}{share}", err=True)


class Bars:
    """A listener that draws a bar for each name it hears of."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}

    def __call__(self, step: Step) -> None:
        """Draw a step; one that goes back begins the bar anew."""
        task = self._tasks.get(step.name)
        if task is None:
            task = self._tasks[step.name] = self._progress.add_task(step.name, total=None, done=0)
        elif step.done < self._done[step.name]:
            self._progress.reset(task, done=0)
        self._done[step.name] = step.done
        total = None if step.share is None else 1.0
        self._progress.update(task, total=total, completed=step.share or 0.0, done=step.done)


@contextlib.contextmanager
def watched(left: str = NOTHING_CHANGED, *, prints: bool = False) -> Iterator[None]:
    """Show progress of what is done meanwhile; end it as `stoppable` does, in words that say what is `left`.

    On a terminal there are bars, else lines at intervals; nothing with --quiet. What `prints` to stdout as it goes
    has no bars where that is a terminal too.
    """
    with stoppable(f"stopped: {left}"), contextlib.ExitStack() as stack:
        if not click.get_current_context().meta.get(_QUIET):
            stack.enter_context(_shown(bars=not (prints and sys.stdout.isatty())))
        yield


@contextlib.contextmanager
def _shown(*, bars: bool) -> Iterator[None]:
    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        with told_to(Lines()):
            yield
    elif bars:
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        counts = (TextColumn("{task.fields[done]:,}"), TimeRemainingColumn())
        # stdout is for what the command found, whatever the screen shows.
        shown = Progress(*columns, *counts, console=console, transient=True, redirect_stdout=False)
        with shown, told_to(Bars(shown)):
            yield
    else:
        yield
