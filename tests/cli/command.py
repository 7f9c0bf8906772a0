"""The command as a user runs it: in this process where that is enough, else as a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import click
from click.testing import CliRunner, Result

from gateway.cli.main import main
from tests import processes
from tests.ledger.proxy import Proxy
from tests.processes import COMMAND, Done


def environ(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a shell that knows nothing of ours."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("IMAGE_GATEWAY_", "OPENAI_"))}
    return {**kept, "COLUMNS": "200", **(more or {})}


def within(*arguments: str, input: str | None = None) -> Result:  # noqa: A002 - as the runner calls it
    """Run a command in this process, as quick as it can be; what it did not expect is raised."""
    runner = CliRunner(env={name: None for name in os.environ if name.startswith("IMAGE_GATEWAY_")})
    done = runner.invoke(main, [*arguments], input=input, prog_name="image-gateway")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done


def run(*arguments: str, **more: str) -> Done:
    """Run a command as a process, to its end, with some variables more."""
    return processes.run(*arguments, environ=environ(more))


def commands(command: click.Command = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, by its name without the program's."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
    else:
        yield " ".join(path), command


class Gate(Proxy):
    """Passes requests on until one has the text for the n-th time: that one and all after it wait."""

    def __init__(self, server: str, text: bytes, count: int) -> None:
        super().__init__(server)
        self._text = text
        self._left = count

    async def _requests(self, reader: asyncio.StreamReader, upstream: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000_000):
            self._left -= data.count(self._text)
            if self._left <= 0:
                self.held_back.set()
                await asyncio.Event().wait()
            upstream.write(data)
        upstream.close()


@asynccontextmanager
async def gated(server: str, directory: Path, text: bytes, count: int) -> AsyncIterator[tuple[Gate, str]]:
    """Yield a gate, and the URL of the store behind it."""
    gate, path = Gate(server, text, count), directory / "gate.sock"
    listener = await asyncio.start_unix_server(gate.accept, path)
    try:
        yield gate, f"unix://{path}"
    finally:
        await gate.aclose()
        listener.close()


@contextmanager
def interruptible() -> Iterator[None]:
    """Have processes that start meanwhile take SIGINT and SIGHUP, even where a shell, or nohup, has them ignored."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, interrupt)
        signal.signal(signal.SIGHUP, hangup)


async def stopped_at(gate: Gate, number: signal.Signals, *arguments: str) -> Done:
    """Start a command, send it a signal while the gate holds it back, and wait for its end."""
    with interruptible():
        process = await asyncio.create_subprocess_exec(
            *COMMAND, *arguments, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    async with asyncio.timeout(100):
        held, ended = asyncio.create_task(gate.held_back.wait()), asyncio.create_task(process.communicate())
        await asyncio.wait({held, ended}, return_when=asyncio.FIRST_COMPLETED)
        if held.done():
            process.send_signal(number)
        held.cancel()
        out, err = await ended
    assert gate.held_back.is_set(), (process.returncode, err)
    assert process.returncode is not None
    return Done(arguments, process.returncode, out.decode(), err.decode())
