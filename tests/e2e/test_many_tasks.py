"""Thousands of tasks at once on one instance: what they take, how often providers are asked, and that all end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.domain.retry import JITTER
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.ports import free_port

MANY = 5000
ALLOWED = 100 * 10**6
EVERY, PER_SECOND, AT_ONCE = 20.0, 300, 40
SLACK = 10.0
"""Seconds that a busy machine may be late."""
PATIENCE = 600
POLICY = f"""
egress: {{allow: ["127.0.0.0/8"]}}
providers:
  evolink:
    preset: evolink
    base_url: "${{SANDBOX_URL}}/evolink/v1"
    api_key: "${{SANDBOX_KEY}}"
    task:
      patience: 1h
      poll: {{first: 5s, every: {EVERY:g}s, after: 1h, then: {EVERY:g}s, per_second: {PER_SECOND}, at_once: {AT_ONCE}}}
routes:
  evolink/gpt-image-2: {{provider: evolink, offer: evolink/gpt-image-2}}
job_types:
  work: {{routes: [evolink/gpt-image-2], defaults: {{quality: low}}}}
projects:
  team:
    job_types: [work]
    budgets: [{{window: day, limit: "10000"}}]
"""
ASK = Ask({"prompt": "a lighthouse", "size": "1024x1024", "async": True})


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox process whose work lasts until it is told to be over."""
    port = free_port()
    command = [sys.executable, "-m", "tests.e2e.polled_sandbox", str(port), "100000", "1"]
    with subprocess.Popen(command) as process:
        running = Sandbox(f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: _answers(running), 30, "the sandbox")
            yield running
        finally:
            process.kill()


def _answers(sandbox: Sandbox) -> bool:
    with contextlib.suppress(OSError):
        return fetch(sandbox.url).status == 200
    return False


def _memory(stack: Stack) -> int:
    return int(psutil.Process(stack.process.pid).memory_info().rss)


def _ended(stack: Stack, many: int) -> bool:
    return stack.metric("tasks", status="completed") == many


def _polls(sandbox: Sandbox) -> Mapping[str, list[float]]:
    told: Mapping[str, list[float]] = fetch(f"{sandbox.url}/polls").json
    return told


def _finish(sandbox: Sandbox, works: list[Any]) -> None:
    """Let work be over, a hundred pieces a second: what a burst does to the machine is not the question."""
    for batch in (works[start : start + 50] for start in range(0, len(works), 50)):
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(sandbox.finish, batch))
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_five_thousand_tasks_at_once(tmp_path: Path, sandbox: Sandbox) -> None:
    """They take less than 100 MB, keep to the provider's rate, and are seen to be ready within one interval."""
    with running_gateway(tmp_path, POLICY, sandbox) as stack:
        asyncio.run(crowd([ASK] * 20, [stack], at_once=20))
        wait_until(lambda: len(sandbox.tasks()) == 20, PATIENCE, "the first work")
        _finish(sandbox, sandbox.tasks())
        wait_until(lambda: _ended(stack, 20), PATIENCE, "the first tasks")
        idle = _memory(stack)

        missing = MANY
        while missing:  # a machine that is busy with other things may find the store away for a moment
            made = Counter(reply.status for reply in asyncio.run(crowd([ASK] * missing, [stack], at_once=20)))
            assert made.keys() <= {202, 503}
            missing -= made[202]
        wait_until(lambda: len(sandbox.tasks()) == MANY + 20, PATIENCE, "all work")
        works = [work for work in sandbox.tasks() if work["state"] in ("queued", "running")]
        assert len(works) == MANY
        wait_until(lambda: sum(map(len, _polls(sandbox).values())) > 2 * MANY, PATIENCE, "two looks at each")
        risen = _memory(stack) - idle
        sys.stdout.write(f"{risen / 1e6:.1f} MB above {idle / 1e6:.1f} MB idle\n")

        _finish(sandbox, works)
        wait_until(lambda: _ended(stack, MANY + 20), PATIENCE, "all tasks")
        settled(stack)
        polls, done = _polls(sandbox), {work["id"]: work["finished"] for work in sandbox.tasks()}
        assert (booked(stack).route, booked(stack).unconfirmed) == (billed(sandbox), 0)

    late = max(min(at for at in polls[name] if at >= done[name]) - done[name] for name in done)
    seconds = Counter(int(at) for times in polls.values() for at in times)
    gaps = [later - earlier for times in polls.values() for earlier, later in itertools.pairwise(times)]
    sys.stdout.write(f"seen {late:.1f} s late at most; at most {max(seconds.values())} looks in a second\n")
    assert risen < ALLOWED
    assert late <= EVERY * (1 + JITTER) + SLACK
    assert max(seconds.values()) <= PER_SECOND * 1.1
    assert min(gaps) >= EVERY / 4
