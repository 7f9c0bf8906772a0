"""The gateway with everything on: keys, a policy with budgets and quotas, its own store, metrics and logs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

from benchmarks.client import Target
from benchmarks.processes import ROOT, Family, free_port, started, wait_http
from benchmarks.subjects import Subject, ask

KINDS = ("small", "large", "huge", "edit")
AMPLE = "1000000"
LIMITS = '[{window: day, limit: "1000000"}, {window: month, limit: "1000000"}]'
QUOTAS = "[{images: 10000000, per: minute}, {concurrent: 100000}]"
COMMAND = (sys.executable, "-m", "gateway")


@dataclass
class Rules:
    """A policy to measure with: where each job type's routes lead, and which projects there are."""

    upstreams: Mapping[str, str]
    """Base URL without `/v1`, by job type."""
    projects: int = 1
    routes: int = 1
    """Routes of each job type; only the first is ever taken."""
    quotas: str = QUOTAS
    others: Mapping[str, str] = field(default_factory=dict)
    """Quotas of further projects, by name."""

    def write(self, folder: Path) -> None:
        """Write the policy's files."""
        folder.mkdir(parents=True)
        for kind, url in self.upstreams.items():
            (folder / f"{kind}.yaml").write_text(self._job_type(kind, url))
        names = {f"team{number}": self.quotas for number in range(self.projects)} | dict(self.others)
        projects = "\n".join(
            f"  {name}: {{job_types: [{', '.join(self.upstreams)}], budgets: {LIMITS}, quotas: {quotas}}}"
            for name, quotas in names.items()
        )
        (folder / "projects.yaml").write_text(
            f'projects:\n{projects}\nbudgets: [{{window: month, limit: "{AMPLE}"}}]\n'
        )

    def _job_type(self, kind: str, url: str) -> str:
        names = [f"{kind}-{number}" for number in range(self.routes)]
        route = "model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21"
        routes = "\n".join(f"  {name}: {{provider: {kind}, {route}}}" for name in names)
        return (
            f'providers:\n  {kind}: {{kind: openai, base_url: "{url}/v1"}}\n'
            f"routes:\n{routes}\njob_types:\n  {kind}: {{routes: [{', '.join(names)}]}}\n"
        )


@dataclass
class Gateway:
    """A gateway that serves."""

    port: int
    pid: int
    data: Path
    environ: Mapping[str, str]
    keys: dict[str, str]

    def target(self, kind: str, project: str = "team0") -> Target:
        """Return a request of a job type, for a project."""
        headers = (("Authorization", f"Bearer {self.keys[project]}"), ("X-Gateway-Job-Type", kind))
        return ask(self.port, kind, headers=headers)

    @property
    def family(self) -> Family:
        """The gateway's processes, without the store."""
        return Family.of(self.pid)

    @property
    def store(self) -> Family:
        """The store's process."""
        return Family.alone(int((self.data / "valkey.pid").read_text()))

    def subject(self, name: str = "Image Gateway") -> Subject:
        """The gateway as something to compare."""
        return Subject(name, self.target, self.family, self.store, "gateway")

    def command(self, *arguments: str) -> str:
        """Run a command on the same store, and return what it printed."""
        done = subprocess.run(
            [*COMMAND, *arguments], env=self.environ, capture_output=True, text=True, check=False, cwd=ROOT
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout

    def booked(self) -> tuple[int, int]:
        """Return how many requests are settled, and what all of them cost on their routes, nano-USD."""
        total = json.loads(self.command("spend", "--window", "total", "--format", "json"))["total"]
        return int(total["requests"]), int(Decimal(total["route_usd"]) * 10**9)

    def add_keys(self, *projects: str) -> None:
        """Make a key for each project."""
        for project in projects:
            self.keys[project] = self.command("keys", "create", "--project", project).strip()


@contextlib.contextmanager
def gateway(
    folder: Path,
    rules: Rules,
    *,
    cores: tuple[int, ...],
    options: tuple[str, ...] = (),
    workers: int = 1,
    prepare: Callable[[Path], None] | None = None,
) -> Iterator[Gateway]:
    """Run a gateway with its embedded store on these cores; `prepare` may fill the data directory before it starts."""
    policy, data, log = folder / "policy", folder / "data", folder / "log"
    rules.write(policy)
    if prepare is not None:
        prepare(data)
    environ = {**os.environ, "IMAGE_GATEWAY_DATA": str(data)}
    port = free_port()
    command = [*COMMAND, "serve", "--policy", str(policy), "--port", str(port), "--admin-port", str(free_port())]
    command += ["--workers", str(workers), *options]
    with started(command, cores=cores, log=log, environ=environ) as process:
        wait_http(f"http://127.0.0.1:{port}/readyz", process, log)
        serving = Gateway(port, process.pid, data, environ, {})
        serving.add_keys("team0", *rules.others)
        time.sleep(1.5)  # keyrings look for new keys once a second
        yield serving
