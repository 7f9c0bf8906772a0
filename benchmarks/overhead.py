"""What the gateway adds to a call: the same client, the same upstream, with and without the gateway in between.

`python benchmarks/overhead.py [--quick]` prints a table in Markdown. The provider's own time is taken out: the upstream
answers at once from memory. Direct and proxied runs alternate, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import uvloop
from client import Target, alternate, load

HERE = Path(__file__).parent
SMALL, TWO_MB, TWENTY_MB = 2_000, 2_000_000, 20_000_000
MB = 1_000_000
POLICY = """
providers:
  p{size}: {{kind: openai, base_url: "http://127.0.0.1:{port}/{size}/v1"}}
routes:
  r{size}: {{provider: p{size}, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
job_types:
  j{size}: {{routes: [r{size}]}}
"""
PROJECT = """
projects:
  bench:
    job_types: [j2000, j2000000, j20000000]
    budgets: [{window: day, limit: "1000000"}, {window: month, limit: "1000000"}]
    quotas: [{images: 10000000, per: minute}, {concurrent: 100000}]
budgets: [{window: month, limit: "1000000"}]
"""


@dataclass(frozen=True)
class Bench:
    """Two ways to the same answers, and the process in between."""

    upstream_port: int
    gateway_port: int
    key: str
    process: psutil.Process

    def direct(self, size: int) -> Target:
        """Straight to the upstream."""
        return Target(self.upstream_port, f"/{size}/v1/images/generations")

    def proxied(self, size: int) -> Target:
        """Through the gateway."""
        headers = (("Authorization", f"Bearer {self.key}"), ("X-Gateway-Job-Type", f"j{size}"))
        return Target(self.gateway_port, "/v1/images/generations", headers)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running() -> Iterator[Bench]:
    """Run the upstream and a gateway of one process with its embedded store, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="igw-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        upstream = subprocess.Popen([sys.executable, HERE / "upstream.py"], stdout=subprocess.PIPE, text=True)
        stack.callback(stop, upstream)
        assert upstream.stdout is not None
        upstream_port, port = int(upstream.stdout.readline()), free_port()
        text = "".join(POLICY.format(size=size, port=upstream_port) for size in (SMALL, TWO_MB, TWENTY_MB))
        (folder / "policy").mkdir()
        for number, section in enumerate(text.split("\nproviders:\n")[1:]):
            (folder / "policy" / f"{number}.yaml").write_text(f"providers:\n{section}")
        (folder / "policy" / "projects.yaml").write_text(PROJECT)
        environ = {**os.environ, "IMAGE_GATEWAY_DATA": str(folder / "data")}
        gateway = [sys.executable, "-m", "gateway"]
        ports = ["--port", str(port), "--admin-port", str(free_port())]
        command = [*gateway, "serve", "--policy", str(folder / "policy"), "--log-level", "warning", *ports]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        stack.callback(stop, process)
        wait_ready(port, process, folder / "log")
        made = subprocess.run(
            [*gateway, "keys", "create", "--project", "bench"], env=environ, capture_output=True, text=True, check=True
        )
        yield Bench(upstream_port, port, made.stdout.strip(), psutil.Process(process.pid))


def stop(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """End a process of ours."""
    process.terminate()
    process.wait(timeout=60)


def wait_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the gateway serves."""
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(log.read_text())
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError("the gateway did not become ready")


class PeakMemory:
    """Watches the resident memory of a process from a thread; `peak` is bytes."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process
        self._stopped = threading.Event()
        self.peak = 0
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._stopped.wait(0.02):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


def percentile(values: list[float], share: float) -> float:
    """Return the value below which this share of all lie."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def latency(bench: Bench, count: int) -> None:
    """Print what one request at a time takes."""
    targets = [bench.direct(SMALL), bench.proxied(SMALL)]
    uvloop.run(alternate(targets, count // 10))
    direct, proxied = uvloop.run(alternate(targets, count))
    print(f"### One request at a time, small answers ({count} each)\n")
    print("| | direct | through the gateway | added |\n|---|---:|---:|---:|")
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99)):
        a, b = (percentile(times, share) * 1000 for times in (direct, proxied))
        print(f"| {name} | {a:.2f} ms | {b:.2f} ms | {b - a:.2f} ms |")


def throughput(bench: Bench, rounds: int, seconds: float) -> None:
    """Print requests and megabytes a second, the median of alternating runs, and the gateway's memory meanwhile."""
    rest = bench.process.memory_info().rss
    print(f"\n### Many at once (median of {rounds} alternating runs of {seconds:g} s each)\n")
    print(
        "| answers | connections | direct | through the gateway | memory of the gateway, peak |\n|---|--:|--:|--:|--:|"
    )
    for size, connections in ((SMALL, 16), (SMALL, 64), (TWO_MB, 1), (TWO_MB, 8), (TWENTY_MB, 1), (TWENTY_MB, 8)):
        direct, proxied = [], []
        with PeakMemory(bench.process) as memory:
            for _ in range(rounds):
                direct.append(uvloop.run(load(bench.direct(size), connections, seconds)))
                proxied.append(uvloop.run(load(bench.proxied(size), connections, seconds)))
        row = [rate(size, runs) for runs in (direct, proxied)]
        label = "small" if size == SMALL else f"{size // MB} MB"
        print(f"| {label} | {connections} | {row[0]} | {row[1]} | {memory.peak / MB:.0f} MB |", flush=True)
    after = bench.process.memory_info().rss
    print(f"\nMemory of the gateway's process: {rest / MB:.0f} MB before, {after / MB:.0f} MB after.")


def rate(size: int, runs: list[tuple[float, float]]) -> str:
    """Return the median rate in the unit that fits the size."""
    requests, volume = (statistics.median(values) for values in zip(*runs, strict=True))
    return f"{requests:.0f} requests/s" if size == SMALL else f"{volume / MB:.0f} MB/s"


def machine() -> str:
    """Say what this ran on."""
    memory = psutil.virtual_memory().total / 2**30
    version = ".".join(map(str, sys.version_info[:3]))
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Python {version}"


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to see that it runs")
    quick = parser.parse_args().quick
    print(f"Machine: {machine()}; client, upstream, gateway and store share it.\n")
    with running() as bench:
        print(f"Memory of the gateway's process at rest: {bench.process.memory_info().rss / MB:.0f} MB.\n")
        latency(bench, 200 if quick else 3000)
        throughput(bench, 1 if quick else 3, 0.5 if quick else 4.0)


if __name__ == "__main__":
    main()
