"""A server that can be killed, frozen and brought back over the same files, and a process that dies beside it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from gateway.ledger.embedded import embedded_store
from gateway.ledger.store import Store
from gateway.ports import LedgerUnavailable
from tests.ledger.servers import kill_server, server_pid

ROOT = Path(__file__).parents[2]


class MortalServer:
    """A server of one test's own; its files are in `directory`."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack
        self.url = stack.enter_context(embedded_store(directory))

    def kill(self) -> None:
        """End it as a power cut would."""
        kill_server(self.directory)

    def restart(self) -> None:
        """Bring it back."""
        self._stack.enter_context(embedded_store(self.directory))

    def freeze(self) -> None:
        """Let it answer nothing, and take nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on where it was."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = server_pid(self.directory)
        assert pid is not None
        os.kill(pid, number)


async def back(store: Store) -> None:
    """Wait until the store lets calls through again, which it does once its probe in the background was answered."""
    async with asyncio.timeout(20):
        while True:
            try:
                await store.execute("PING", repeatable=True)
            except LedgerUnavailable:
                await asyncio.sleep(0.01)
            else:
                return


class DyingProcess:
    """Runs a coroutine function of a test module in a process of its own, which kills itself at its end."""

    def __init__(self, module: str, function: str, *arguments: str) -> None:
        code = (
            f"import asyncio, os, signal, sys\nfrom {module} import {function} as work\n"
            "asyncio.run(work(*sys.argv[1:]))\n"
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def wait_for(self, word: str) -> None:
        """Wait until it has said so."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == word

    def go_on(self) -> None:
        """Let it go on after its `wait`."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """Wait for its death, which must be the one it gave itself."""
        with self._process:
            assert self._process.wait(30) == -signal.SIGKILL
