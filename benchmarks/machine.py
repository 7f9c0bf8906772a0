"""The machine that is measured on: its cores and who gets which, its limits, its description."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

DESCRIPTORS = 65_536
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Cores:
    """Who runs where: the measured program on `measured`, load and upstream on `load`; the same if there is one."""

    measured: tuple[int, ...]
    load: tuple[int, ...]

    @property
    def apart(self) -> bool:
        """Tell whether the measured program has its core to itself."""
        return not set(self.measured) & set(self.load)


def available() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def split(cores: list[int], measured: int = 1) -> Cores:
    """Give the first `measured` cores to the measured program and the others to load and upstream."""
    if len(cores) <= measured or shutil.which("taskset") is None:
        return Cores(tuple(cores), tuple(cores))
    return Cores(tuple(cores[:measured]), tuple(cores[measured:]))


def pinned(command: list[str], cores: tuple[int, ...]) -> list[str]:
    """Return the command that runs on these cores alone, with whatever it starts; unchanged without `taskset`."""
    found = shutil.which("taskset")
    return [found, "-c", ",".join(map(str, cores)), *command] if found else command


def stay_on(cores: tuple[int, ...]) -> None:
    """Keep this process and all that it starts from now on to these cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def descriptors() -> int:
    """Allow as many open files as the system lets us, and return the number; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in ((DESCRIPTORS, max(hard, DESCRIPTORS)), (min(hard, DESCRIPTORS), hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def processor() -> str:
    """Return the processor's name, "" if nothing says it."""
    if not CPU_INFO.exists():
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in CPU_INFO.read_text().splitlines() if "model name" in line)
    return next(names, "")


def version(*command: str) -> str:
    """Return the first line that a program says of its version, "" where there is no such program."""
    if shutil.which(command[0]) is None:
        return ""
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    return (told.stdout + told.stderr).strip().partition("\n")[0].removeprefix("nginx version: ")


def description() -> dict[str, str | int | float]:
    """Say what this runs on: cores, processor, memory (GiB), kernel, load average, versions."""
    return {
        "cores": len(available()),
        "processor": processor(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "nginx": version("nginx", "-v"),
        "wrk": version("wrk", "-v").partition(" [")[0],
        "load_average_before": round(psutil.getloadavg()[0], 2),
    }
