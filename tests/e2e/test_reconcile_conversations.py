"""`image-gateway reconcile --match day` beside conversations: each cost two models, which a cost export has apart."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.books import Books, at, usd
from tests.e2e.stack import Stack, running_gateway

POLICY = """
text_models:
  gpt-5.2:
    context: 400000
    max_tokens_per_image: 1536
    price: [{from: 2026-01-01, text_in: "1.75", text_in_cached: "0.175", text_out: "14"}]
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 20s}
routes:
  main/gpt-image-2: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  chat:
    routes: [main/gpt-image-2]
    defaults: {quality: low, size: 1024x1024}
    responses: {provider: main, models: [gpt-5.2], max_images: 3, max_output_tokens: 2000}
projects:
  team:
    job_types: [chat]
    budgets: [{window: total, limit: "1000"}]
    chargeback: {multiplier: "1.15"}
"""
BY_DAY = ("--match", "day", "--columns", "time=timestamp,model=model,amount=cost_usd")
HEAD = "timestamp,model,cost_usd"


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that serves conversations."""
    with running_gateway(tmp_path_factory.mktemp("talks"), POLICY, sandbox) as running:
        yield running


@pytest.mark.parametrize("asked", [[], ["--model", "gpt-image-2"], ["--model", "gpt-5.2"]])
def test_books_and_bill_that_are_equal_have_nothing_unexplained(
    talking: Stack, sandbox: Sandbox, tmp_path: Path, asked: list[str]
) -> None:
    """Conversations with an image, with several and with none, and an image alone: each model has its own sum."""
    before, now = booked(talking), datetime.now(UTC)
    for words in ("a brief", "[3 images] a long brief " * 20, "[0 images] what is blue"):
        asks = {"model": "gpt-5.2", "input": words, "tools": [{"type": "image_generation"}]}
        assert talking.post("/v1/responses", asks).status == 200
    assert talking.post("/v1/images/generations", {"model": "job:chat", "prompt": "alone"}).status == 200
    settled(talking)
    assert booked(talking).route - before.route == billed(sandbox)
    sums: Counter[str] = Counter()
    for line in sandbox.bill()["lines"]:
        sums[line["model"]] += line["nano_usd"]
    assert len(sums) == 2
    with (tmp_path / "cost.csv").open("w", newline="") as file:
        rows = [(at(), f"{model}, output", usd(cost)) for model, cost in sums.items()]
        csv.writer(file).writerows([HEAD.split(","), *rows])
    period = ["--since", now.isoformat(), "--until", f"{datetime.now(UTC) + timedelta(hours=1):%FT%T}"]
    command = ["reconcile", str(tmp_path / "cost.csv"), "--provider", "main", *period, *BY_DAY, *asked, "--json"]
    told = talking.command(*command, "--apply")
    assert told.returncode == 0, told.stderr + told.stdout
    found = json.loads(told.stdout)
    assert {each["class"]: each["count"] for each in found["classes"]} == {"matched": 1 if asked else 2}
    assert (found["unexplained_usd"], found["applied"]["booked"]) == ("0.00", 0)


def spoke(books: Books, request_id: str, cost: int, **facts: Any) -> None:
    """Book a conversation that `writer` led."""
    books.held(request_id, operation="respond")
    said: dict[str, object] = {"text_model": "writer", "text_tokens": {"in": 9, "cached": 0, "out": 9}, **facts}
    settlement = Settlement(request_id, 1, Views(cost, cost, cost), CostSource.USAGE, 1, facts=said)
    books.do(lambda _, ledger: ledger.settle(settlement))


def test_conversations_that_an_earlier_version_booked_are_one_sum(books: Books) -> None:
    """It did not say what each model cost: the day is compared as a whole, and no model alone."""
    spoke(books, "r1", 1_000)
    spoke(books, "r2", 2_000, text_nano_usd=500)
    books.book("r3", 4_000)
    books.write([(at(), "m", usd(6_300)), (at(), "writer, input", usd(700))], HEAD)
    (matched,) = books.found(*BY_DAY, status=0)["classes"]
    assert [matched[name] for name in ("class", "ours_usd", "theirs_usd")] == ["matched", "0.000007", "0.000007"]
    for model in ("m", "writer"):
        done = books.reconcile(*BY_DAY, "--model", model, "--apply")
        assert (done.exit_code, done.stdout) == (1, "")
        assert "booked both models of conversations as one sum: leave --model out" in done.stderr
    assert books.total() == {"p": 7_000}


def test_a_conversation_that_was_corrected_is_both_models_still(books: Books) -> None:
    """Each by its part, as far as the invoice or somebody by hand told of the sum alone."""
    spoke(books, "r1", 2_000, text_nano_usd=500)
    adjust = ("ledger", "adjust", "r1", "--cost", "0.000003", "--reason", "told by mail")
    assert books.command(*adjust).exit_code == 0
    books.write([(at(), "m", usd(2_250)), (at(), "writer", usd(740))], HEAD)
    told = books.found(*BY_DAY, "--apply", status=0)
    (difference,) = told["differences"]
    assert [difference[name] for name in ("class", "model", "ours_usd", "theirs_usd")] == [
        "other_amount",
        "writer",
        "0.00000075",
        "0.00000074",
    ]
    assert books.total("model") == {"m": 3_000, "writer": -10}
    assert books.found(*BY_DAY, status=0)["differences"] == []
