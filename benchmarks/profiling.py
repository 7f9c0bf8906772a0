"""Where the gateway's processor time goes while it is busy with small answers: py-spy beside it, functions by share.

Needs leave to look into another process, as root or the parent of a process has it on most systems.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from benchmarks.bench import Bench, fast_upstream
from benchmarks.gateway import Rules, gateway
from benchmarks.processes import ROOT
from benchmarks.report import Section
from benchmarks.rivals import UnavailableError, python_environment
from benchmarks.wrk import keep_busy

PROFILER = "0.4.3"
RATE = 200
"""Samples a second."""
CONNECTIONS = 64
SHOWN = 20
LINE = re.compile(r":\d+\)$")
TITLE = "Where the processor time goes"


def shares(stacks: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Count samples by function, from lines `outer;inner;… count`: at the top of the stack, and anywhere in it."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks:
        stack, _, count = line.rpartition(" ")
        functions = [LINE.sub(")", frame) for frame in stack.split(";")]
        own[functions[-1]] += int(count)
        for function in set(functions):
            within[function] += int(count)
    return own, within


def run(bench: Bench) -> list[Section]:
    """Return the functions that take most, or why there is no profile."""
    try:
        programs = python_environment("py-spy", f"py-spy=={PROFILER}")
    except UnavailableError as error:
        return [Section(TITLE, notes=[f"Left out: {error}"])]
    seconds = 2 if bench.quick else 15
    home = bench.home("profile")
    file = home / "stacks"
    command = [str(programs / "py-spy"), "record", "--rate", str(RATE), "--duration", str(seconds)]
    command += ["--format", "raw", "--output", str(file), "--gil"]  # threads that wait for work are none of it
    with fast_upstream(bench) as port, ThreadPoolExecutor(1) as beside:
        rules = Rules({"small": f"http://127.0.0.1:{port}/small"})
        with gateway(home, rules, cores=bench.cores.measured) as serving:
            load = beside.submit(keep_busy, serving.target("small"), CONNECTIONS, seconds + 2, bench.folder)
            done = subprocess.run([*command, "--pid", str(serving.pid)], capture_output=True, text=True, check=False)
            load.result()
    if done.returncode or not file.exists():
        words = (done.stderr.strip().splitlines() or ["py-spy gave no reason"])[-1]
        return [Section(TITLE, notes=[f"Left out: {words}"])]
    own, within = shares(file.read_text().splitlines())
    total = own.total()
    rows: list[tuple[str, ...]] = [
        (f"`{name.replace(f'{ROOT}/', '')}`", f"{count / total:.1%}", f"{within[name] / total:.1%}")
        for name, count in own.most_common(SHOWN)
    ]
    notes = [f"{total:,} samples over {seconds} s at {RATE} a second, {CONNECTIONS} connections, small answers."]
    return [Section(TITLE, ("function", "itself", "with all it calls"), rows, notes)]
