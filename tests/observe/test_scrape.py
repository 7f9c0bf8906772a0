from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.observe.metric_table import METRICS
from gateway.observe.scrape import Snapshot, new_registry, render_metrics
from gateway.observe.series import WORKERS_VARIABLE
from tests.observe.samples import HOLD_ENDED, JOB_TYPE, PROJECT, ROUTE, read, value

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian's package prometheus) is not installed")
def test_promtool_finds_nothing_to_object_to(scraped: bytes) -> None:
    """Prometheus' own linter accepts the scrape, but for one name in days that is fixed by contract."""
    checked = subprocess.run(["promtool", "check", "metrics"], input=scraped, capture_output=True, check=False)
    complaints = (checked.stdout + checked.stderr).decode().splitlines()

    assert [line for line in complaints if "model_retires_in_days" not in line] == []
    assert checked.returncode in {0, 3}, "3 is for complaints, anything else for text that is not metrics"


def test_workers_are_summed_and_the_dead_forgotten(tmp_path: Path) -> None:
    """Two real processes' numbers add up; once one is dead its requests in flight are gone and its counts stay."""
    environment = {**os.environ, WORKERS_VARIABLE: str(tmp_path), "PYTHONPATH": str(ROOT)}

    def start(requests: int) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.observe.worker", str(requests)]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)

    def collected(*dead: int) -> bytes:
        command = [sys.executable, "-m", "tests.observe.collect", *map(str, dead)]
        return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True).stdout

    labels = {"operation": "generate", "job_type": JOB_TYPE, "project": PROJECT, "route": ROUTE, "status": "200"}
    with start(3) as first, start(4) as second:
        for worker in (first, second):
            assert worker.stdout is not None
            assert worker.stdout.readline() == "counted\n"
        together = collected()
        first.kill()
        first.wait()
        one_dead = collected(first.pid)
        second.communicate()

    spent = {"project": PROJECT, "job_type": JOB_TYPE, "route": ROUTE, "view": "route"}
    assert value(together, "requests_total", **labels) == 7
    assert value(together, "request_duration_seconds_count") == 7
    assert value(together, "spend_usd_total", **spent) == pytest.approx(7 * HOLD_ENDED.cost.route / 10**9)
    assert value(together, "in_flight", operation="generate") == 2
    heads = [line for line in together.decode().splitlines() if line.startswith(("# HELP ", "# TYPE "))]
    for metric in METRICS:  # those too that nothing was counted of
        assert heads.count(f"# HELP {metric.full_name} {metric.help}") == 1
        assert sum(line.startswith(f"# TYPE {metric.full_name} ") for line in heads) == 1
    assert value(together, "policy_info", digest="0123456789abcdef") == 1
    assert value(one_dead, "in_flight", operation="generate") == 1
    assert value(one_dead, "requests_total", **labels) == 7


@pytest.mark.parametrize("there", [True, False], ids=["there", "absent"])
def test_the_librarys_own_directory_is_not_ours(tmp_path: Path, there: bool) -> None:
    """Where other programs of a machine share numbers by the library's variable, ours neither reads nor writes them."""
    folder = tmp_path if there else tmp_path / "absent"
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.observe.worker", "1"]
    counted = subprocess.run(
        command, env=environment, cwd=ROOT, check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    assert (counted.returncode, counted.stdout, counted.stderr) == (0, b"counted\n", b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the library reads /proc")
def test_a_single_process_shows_its_memory() -> None:
    """The registry of one process also carries its resident memory."""
    text, _ = render_metrics(new_registry(), Snapshot())

    assert read(text)[("process_resident_memory_bytes", frozenset())] > 0
