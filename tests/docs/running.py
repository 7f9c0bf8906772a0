"""Runs the marked blocks of a page in their order, as a reader would: one folder, one shell, real servers."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.blocks import Block
from tests.e2e.stack import CALM, Stack, wait_until
from tests.ports import free_port

SECONDS = 100
"""For one block."""
ACCOUNTS = ("OPENAI_API_KEY", "SECOND_API_KEY", "AZURE_API_KEY", "EVOLINK_API_KEY")
"""Secrets that pages name. A reader has none before the page says so."""
PORTS = {
    "8080": "IMAGE_GATEWAY_PORT",
    "9090": "IMAGE_GATEWAY_ADMIN_PORT",
    "8081": "IMAGE_GATEWAY_SANDBOX_PORT",
}
"""The ports that pages name, which are the commands' defaults, and the variables by which a command takes another."""
_KEY = re.compile(r"^igw_\w+$", re.MULTILINE)
INTERPRETER = """
import runpy, sys, traceback
for script in sys.stdin:
    status = 0
    try:
        runpy.run_path(script.rstrip(), run_name="__main__")
    except BaseException:
        status = 1
        traceback.print_exc(file=sys.stdout)
    print(f"ended {status}", flush=True)
"""
"""Runs scripts one after the other, each in names of its own: libraries are imported once for a page."""


@dataclass
class Reader:
    """Somebody who types what a page says, with ports of their own."""

    folder: Path
    stack: Stack | None = None
    """What a page speaks to that says nothing of starting a gateway."""
    project: str = "team"
    key: str = ""
    """The one that was made last, by what the page types."""
    packages: Mapping[str, Path] = field(default_factory=dict)
    """Interpreter, or `node_modules`, by the package that a block needs."""
    ports: dict[str, int] = field(default_factory=dict)
    printed: str = ""
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    interpreters: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    """By the package that they have besides those of the suite; none is ``."""

    def follow(self, block: Block) -> None:
        """Do what a block's mark says."""
        if block.words.startswith("project "):
            self.project = block.words.removeprefix("project ")
        match block.verb:
            case "run" if block.words.startswith("until "):
                self._start(block)
            case "run" if block.language == "python":
                self._run_python(block)
            case "run":
                self._run(block)
            case "prints":
                assert _pattern(self._here(block.text)).search(self.printed), f"{block}: printed {self.printed}"
            case "file":
                file = self.folder / block.words
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(self._here(block.text))
            case _:
                pass  # shown, not typed

    def stop(self) -> None:
        """End what was started."""
        for interpreter in self.interpreters.values():
            interpreter.communicate(timeout=60)
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=60)

    def _here(self, text: str) -> str:
        """The text with this machine's ports and keys in place of those on the page."""
        if self.stack:
            self.key = self.stack.key(self.project)
            sandbox = int(self.stack.sandbox.url.rpartition(":")[2])
            self.ports |= {"8080": self.stack.port, "9090": self.stack.admin_port, "8081": sandbox}
        if self.key:
            text = text.replace("igw_…", self.key)
        for port in set(re.findall(r"\b(?:8080|9090|8081|9900)\b", text)):
            text = re.sub(rf"\b{port}\b", str(self._port(port)), text)
        return text

    def _port(self, named: str) -> int:
        return self.ports.setdefault(named, free_port())

    @property
    def _state(self) -> Path:
        return self.folder / ".shell"

    def _environ(self) -> dict[str, str]:
        left = {name for name in os.environ if name.startswith("IMAGE_GATEWAY_")} | set(ACCOUNTS)
        kept = {name: text for name, text in os.environ.items() if name not in left}
        mine = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "XDG_DATA_HOME": "",
            "COLUMNS": "160",
            "IMAGE_GATEWAY_STORE_TIMEOUT": CALM,
        }
        if self.stack:
            mine |= {"IMAGE_GATEWAY_DATA": str(self.stack.data), "GATEWAY_KEY": self.stack.key(self.project)}
        else:
            mine |= {name: str(self._port(port)) for port, name in PORTS.items()}
        return {**kept, **mine}

    def _command(self, block: Block) -> list[str | Path]:
        text = self._here(block.text)
        if block.language == "sh":
            before = f'if [ -f "{self._state}" ]; then . "{self._state}"; fi\nset -e\n'
            return ["sh", "-c", f'{before}{text}export -p > "{self._state}"\n']
        assert block.language == "js", block
        script = self.folder / f"example-{block.line}.mjs"
        script.write_text(text)
        modules = self.folder / "node_modules"
        if not modules.exists():
            modules.symlink_to(self.packages["node"])
        return ["node", script]

    def _run_python(self, block: Block) -> None:
        package = block.words.removeprefix("with ") if block.words.startswith("with ") else ""
        script = self.folder / f"example-{block.line}.py"
        script.write_text(self._here(block.text))
        if package not in self.interpreters:
            self.interpreters[package] = subprocess.Popen(
                [self.packages[package] if package else sys.executable, "-c", INTERPRETER],
                cwd=self.folder,
                env=self._environ(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        interpreter = self.interpreters[package]
        assert interpreter.stdin
        assert interpreter.stdout
        interpreter.stdin.write(f"{script}\n")
        interpreter.stdin.flush()
        printed = []
        for line in interpreter.stdout:
            if line.startswith("ended "):
                break
            printed.append(line)
        else:
            line = "ended early"
        self.printed = "".join(printed)
        assert line == "ended 0\n", f"{block}: {line}\n{self.printed}"

    def _run(self, block: Block) -> None:
        done = subprocess.run(
            self._command(block),
            cwd=self.folder,
            env=self._environ(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        self.printed = done.stdout + done.stderr
        self.key = key[0] if (key := _KEY.search(done.stdout)) else self.key
        assert done.returncode == 0, f"{block}: exit {done.returncode}\n{self.printed}"

    def _start(self, block: Block) -> None:
        command = self._command(block)
        port = int(self._here(block.words.removeprefix("until ")))
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.started.append(process)
        wait_until(lambda: _listens(port) or process.poll() is not None, 60, f"{block}: port {port}")
        assert process.poll() is None, f"{block} ended"


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _pattern(text: str) -> re.Pattern[str]:
    """The expected output: `…` is anything, and blanks count as one."""
    parts = [r"\s+".join(map(re.escape, part.split())) for part in text.strip().split("…")]
    return re.compile(r"[\s\S]*?".join(rf"\s*{part}\s*" if part else "" for part in parts))


@contextlib.contextmanager
def reader(folder: Path, **options: object) -> Iterator[Reader]:
    """A reader whose servers end with them."""
    one = Reader(folder, **options)  # type: ignore[arg-type]  # the class's own fields, by name
    try:
        yield one
    finally:
        one.stop()
