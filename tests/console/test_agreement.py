"""After a thousand mixed requests the console, `/metrics`, `spend` and the ledger's balances say the same."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest

from gateway.sandbox.client import Sandbox
from tests.console.conftest import POLICY
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until

REQUESTS = 1000
LABELS = ("project", "job_type", "route")
CENT_OF_A_CENT = Decimal("0.0001")
ROUNDED_UP = Decimal("0.000001")
"""What a balance may count more of a booking: it holds whole micro-USD."""


@pytest.fixture
def gateway(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose admin plane is a process of its own."""
    with running_gateway(tmp_path_factory.mktemp("agreement"), POLICY, sandbox, "--workers", "2") as running:
        yield running


def _mixed(stack: Stack, number: int) -> int:
    draw = random.Random(number)
    job_type, project = draw.choice(["draft", "draft", "fallback"]), draw.choice(["team", "team", "thrifty"])
    body = {
        "prompt": f"picture {number}",
        "n": draw.choice([1, 1, 2]),
        "quality": draw.choice(["low", "medium", "high"]),
        "size": draw.choice(["1024x1024", "1536x1024"]),
    }
    headers = {"x-gateway-job-type": job_type, "x-gateway-tags": f"n={number % 7}"}
    return stack.post("/v1/images/generations", body, project=project, headers=headers).status


@pytest.mark.slow
def test_all_books_agree(gateway: Stack, sandbox: Sandbox) -> None:
    """To the last digit between console, reports and balances; to float precision in metrics, label by label."""
    for project in ("team", "thrifty"):
        gateway.key(project)
    sandbox.fault("status", status=500, times=30)
    sandbox.fault("reset", times=10)
    with ThreadPoolExecutor(12) as crowd:
        statuses = list(crowd.map(lambda number: _mixed(gateway, number), range(REQUESTS)))
    assert {200, 402} <= set(statuses) <= {200, 402, 403, 502}
    wait_until(lambda: gateway.held() == 0, 100, "every hold to end")

    base = f"http://127.0.0.1:{gateway.admin_port}"
    rows = gateway.spend("--by", ",".join(LABELS), "--window", "month")
    for label in LABELS:
        spent: dict[str, Decimal] = {}
        for row in rows:
            spent[row[label]] = spent.get(row[label], Decimal(0)) + Decimal(row["route_usd"])

        def shown(label: str = label) -> dict[str, Decimal]:
            told = fetch(f"{base}/console/api/spend?by={label}&range=month").json
            return {row["name"]: Decimal(row["route"]) for row in told["rows"]}

        wait_until(lambda spent=spent, shown=shown: shown() == spent, 100, f"the console by {label}")
    metrics = gateway.metrics()
    for row in rows:
        labels = [f'{label}="{row[label]}"' for label in LABELS] + ['view="route"']
        counted = [v for name, v in metrics.items() if "spend_usd_total{" in name and all(w in name for w in labels)]
        assert abs(Decimal(str(sum(counted))) - Decimal(row["route_usd"])) < CENT_OF_A_CENT, row
    total = sum(Decimal(row["route_usd"]) for row in rows)
    budgets = fetch(f"{base}/console/api/budgets").json["budgets"]
    everything = next(each for each in budgets if each["scope"] == "everything")
    assert 0 <= Decimal(everything["used"]) - total <= ROUNDED_UP * REQUESTS
    verified = gateway.command("ledger", "verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert re.search(r"\d", verified.stdout + verified.stderr)
