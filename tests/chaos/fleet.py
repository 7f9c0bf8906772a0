"""Gateways, their store and their provider as processes that may be killed at any moment and come back as they were."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gateway.ledger.valkey_binary import valkey_binary
from tests.chaos.policy import POLICY, PROJECTS
from tests.chaos.upstream import ACCOUNTS
from tests.e2e.stack import fetch, wait_until
from tests.ports import free_port

REALM = "chaos"
START_SECONDS = 60
SHORT_LIFE = 0.3
"""Seconds; a process that ended by itself sooner is started again only after a pause."""


class Program:
    """A process that is started again on the same ports and the same data, each time it was killed."""

    def __init__(self, name: str, command: Sequence[str], environ: Mapping[str, str], directory: Path) -> None:
        self.name = name
        self.command = list(command)
        self.environ = dict(environ)
        self.log = directory / f"{name}.log"
        self.frozen = False
        self.down = False
        """Whether it shall stay away for now when it is gone."""
        self.killed = 0
        """How often it was found killed."""
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._counted = False

    @property
    def pid(self) -> int:
        """Its process id; it must run."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs, or is frozen."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it; its output goes to the end of its log."""
        assert not self.alive
        self.frozen = False
        self._started = time.monotonic()
        self._counted = False
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(self.command, env=self.environ, stdout=output, stderr=output)

    def kill(self) -> None:
        """End it outright and wait until it is gone, whatever it does; harmless if it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def freeze(self) -> None:
        """Stop it where it stands."""
        self.frozen = True
        os.kill(self.pid, signal.SIGSTOP)

    @property
    def stands_still(self) -> bool:
        """Whether it is frozen, by us or by itself (a failpoint)."""
        if not self.alive:
            return False
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def thaw(self) -> None:
        """Let it go on."""
        if self.alive and self.frozen:
            os.kill(self.pid, signal.SIGCONT)
        self.frozen = False

    def restart_if_dead(self) -> None:
        """Start it again if it is gone; at once if it was killed, after a moment if it gave up by itself."""
        if self.alive or self.down:
            return
        killed = self._process is not None and self._process.returncode == -signal.SIGKILL
        self.killed += killed and not self._counted
        self._counted = True
        if killed or time.monotonic() - self._started > SHORT_LIFE:
            self.start()

    def stop(self) -> int:
        """End it in order and return its exit status."""
        assert self._process is not None
        self.thaw()
        self._process.terminate()
        try:
            return self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL


class StoreServer(Program):
    """A Redis or Valkey on TCP that writes every change to disk before it answers."""

    def __init__(self, name: str, directory: Path, *options: str, port: int | None = None) -> None:
        self.home = directory / name
        self.home.mkdir(parents=True, exist_ok=True)
        self.port = free_port() if port is None else port
        always = ("--appendonly", "yes", "--appendfsync", "always", "--save", "", "--dir", str(self.home))
        command = [server_binary(), "--port", str(self.port), "--bind", "127.0.0.1", *always, *options]
        super().__init__(name, command, os.environ, directory)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}"


def server_binary() -> str:
    """The machine's own Redis or Valkey, else the one that the gateway brings along."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or str(valkey_binary())


class GatewayProcess(Program):
    """One `image-gateway serve` with a data directory of its own."""

    def __init__(self, name: str, directory: Path, environ: Mapping[str, str], *options: str) -> None:
        self.port, self.admin_port = free_port(), free_port()
        self.data = directory / name
        ports = ("--port", str(self.port), "--admin-port", str(self.admin_port))
        command = [sys.executable, "-m", "gateway", "serve", *ports, "--data", str(self.data), *options]
        super().__init__(name, command, environ, directory)

    @property
    def url(self) -> str:
        """Where it serves clients."""
        return f"http://127.0.0.1:{self.port}"

    def ready(self) -> bool:
        """Whether it would take a request now."""
        try:
            return fetch(f"{self.url}/readyz", timeout=5).status == 200
        except OSError:
            return False


@dataclass
class Fleet:
    """Everything that runs. `store_url` is what gateways use: the store itself, or what stands in front of it."""

    directory: Path
    store: StoreServer
    store_url: str
    upstream: Program
    gateways: list[GatewayProcess]
    environ: Mapping[str, str]
    policy: Path
    bill: Path
    keys: dict[str, str] = field(default_factory=dict)
    beside: list[Program] = field(default_factory=list)

    @property
    def programs(self) -> list[Program]:
        """All that is started again when it dies."""
        return [*self.beside, self.store, *self.gateways]

    @property
    def log_text(self) -> str:
        """The ends of all gateways' logs, for whoever reads of a failure."""
        return "\n".join(f"--- {g.name}\n{g.log.read_text(errors='replace')[-1500:]}" for g in self.gateways)

    def command(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run an `image-gateway` command on the same store."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            env=dict(self.environ),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def wait_until_ready(self) -> None:
        """Wait until every gateway serves."""
        for gateway in self.gateways:
            wait_until(gateway.ready, START_SECONDS, f"{gateway.name} ready\n{self.log_text}")

    @contextlib.asynccontextmanager
    async def kept_running(self) -> AsyncIterator[None]:
        """Meanwhile, start again whatever dies; at the end let everything run that was frozen."""
        task = asyncio.create_task(self._restarting())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for program in self.programs:
                program.thaw()

    async def _restarting(self) -> None:
        while True:
            for program in self.programs:
                program.restart_if_dead()
            await asyncio.sleep(0.02)


@contextlib.contextmanager
def running_fleet(
    directory: Path,
    *,
    gateways: int,
    lease: float,
    seed: int,
    policy: str = POLICY,
    store_url: str | None = None,
    store: StoreServer | None = None,
    beside: Sequence[Program] = (),
    environ: Mapping[str, str] | None = None,
) -> Iterator[Fleet]:
    """Run a store, a provider and some gateways, and make a key for every project. Seconds: `lease`.

    `store_url` is where gateways find the store if that is not its own address, `beside` what leads there; `environ`
    is for gateways alone.
    """
    server = store or StoreServer("store", directory)
    rules, bill, port = directory / "policy", directory / "bill.jsonl", free_port()
    rules.mkdir()
    (rules / "policy.yaml").write_text(policy)
    every = {
        **os.environ,
        "IMAGE_GATEWAY_PEPPER": "a-pepper-for-tests-alone",
        "IMAGE_GATEWAY_POLICY": str(rules),
        "IMAGE_GATEWAY_STORE": store_url or server.url,
        "IMAGE_GATEWAY_REALM": REALM,
        "IMAGE_GATEWAY_DATA": str(directory / "commands"),
        "UPSTREAM_URL": f"http://127.0.0.1:{port}/v1",
        **{f"UPSTREAM_KEY_{account.upper()}": key for key, account in ACCOUNTS.items()},
    }
    upstream = Program(
        "upstream", [sys.executable, "-m", "tests.chaos.upstream", str(port), str(bill), str(seed)], every, directory
    )
    options = ("--lease", str(lease), "--log-level", "warning")
    own = {**every, **(environ or {})}
    processes = [GatewayProcess(f"gateway-{number}", directory, own, *options) for number in range(gateways)]
    fleet = Fleet(directory, server, every["IMAGE_GATEWAY_STORE"], upstream, processes, every, rules, bill)
    fleet.beside += beside
    bill.touch()
    try:
        for program in (server, upstream, *beside):
            program.start()
        wait_until(lambda: _listens(port), START_SECONDS, "the provider")
        for project in PROJECTS:
            made = fleet.command("keys", "create", "--project", project)
            assert made.returncode == 0, made.stderr
            fleet.keys[project] = made.stdout.strip()
        for gateway in processes:
            gateway.start()
        fleet.wait_until_ready()
        yield fleet
    finally:
        for program in (*fleet.programs, upstream, server):
            program.kill()


def _listens(port: int) -> bool:
    try:
        return fetch(f"http://127.0.0.1:{port}/", timeout=5).status > 0
    except OSError:
        return False
