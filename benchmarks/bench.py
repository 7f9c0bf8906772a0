"""What every part of the suite needs: how much to do, on which cores, and upstreams."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import nginx
from benchmarks.machine import Cores, pinned
from benchmarks.processes import ROOT, stop


@dataclass(frozen=True)
class Bench:
    """How much to do, and where."""

    folder: Path
    cores: Cores
    descriptors: int
    quick: bool = False
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @property
    def rounds(self) -> int:
        """How often each thing is measured, in turn with the others."""
        return 1 if self.quick else 5

    @property
    def seconds(self) -> float:
        """How long each measurement takes."""
        return 1.0 if self.quick else 3.0

    def home(self, name: str) -> Path:
        """Return a new folder."""
        made = self.folder / f"{name}-{next(self._numbers)}"
        made.mkdir()
        return made


@dataclass(frozen=True)
class Counting:
    """The upstream that counts and waits, on a port."""

    port: int

    def url(self, kind: str) -> str:
        """Return the base URL of a kind of answer, such as `small-250`."""
        return f"http://127.0.0.1:{self.port}/{kind}"

    def told(self) -> tuple[Mapping[str, int], int]:
        """Return how many answers were given, by kind, and how many requests wait."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/served", timeout=60) as answer:
            told = json.load(answer)
        return told["served"], int(told["waiting"])


@contextlib.contextmanager
def counting_upstream(bench: Bench) -> Iterator[Counting]:
    """Run an upstream that counts what it serves and can wait, beside the load."""
    command = pinned([sys.executable, "-m", "benchmarks.upstream"], bench.cores.load)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stdout is not None
        try:
            yield Counting(int(process.stdout.readline()))
        finally:
            stop(process)


@contextlib.contextmanager
def fast_upstream(bench: Bench) -> Iterator[int]:
    """Run the fastest upstream there is, nginx or our own; yields its port."""
    if nginx.program() is None:
        with counting_upstream(bench) as ours:
            yield ours.port
        return
    with nginx.upstream(bench.home("upstream"), cores=bench.cores.load, descriptors=bench.descriptors) as port:
        yield port
