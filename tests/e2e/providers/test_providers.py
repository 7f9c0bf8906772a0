"""Each provider as the catalog has it: what it makes, how it fails, and that its bill is the ledger."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed
from tests.e2e.providers.case import Failing, Provider, policy
from tests.e2e.providers.evolink import EVOLINK
from tests.e2e.providers.gemini import GEMINI
from tests.e2e.providers.likes import LIKES, OWN_MODEL
from tests.e2e.providers.openai import AZURE_DEPLOYMENTS, AZURE_V1, OPENAI
from tests.e2e.providers.queues import BFL, FAL, REPLICATE
from tests.e2e.providers.runner import PICTURES, Wish, ask_all, check_books, check_images, counted, prove
from tests.e2e.stack import Stack, running_gateway
from tests.ports import free_port

PROVIDERS = (OPENAI, AZURE_V1, AZURE_DEPLOYMENTS, EVOLINK, FAL, REPLICATE, BFL, GEMINI, *LIKES)
FEW, MANY = 30, 200
QUICK = (
    "invalid",
    "moderated",
    "withheld",
    "content filter",
    "prompt blocked",
    "bad request",
    "lost answer",
    "numbered code",
)
"""Errors that are tried with the fast tests; all of them take minutes."""

each_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=lambda provider: provider.name)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway in front of all of them, which they reach for input images."""
    port = free_port()
    public = f"http://127.0.0.1:{port}"
    rules = policy(PROVIDERS, OWN_MODEL)
    with running_gateway(
        tmp_path_factory.mktemp("proof"), rules, sandbox, "--public-url", public, port=port
    ) as running:
        yield running


@each_provider
def test_what_it_sells_is_made_and_booked(stack: Stack, sandbox: Sandbox, provider: Provider) -> None:
    """All it sells, at once, as a task and as a stream: its own bytes, its own price, known in the way that is said."""
    wishes = [
        Wish(
            {"prompt": f"a cat of {name} by {how}", **({"stream": True} if how == "stream" else {})},
            provider.job_type(name),
            sold,
            how,
            files=() if sold.generates else PICTURES[:1],
            mask=sold.required_mask,
        )
        for name, sold in provider.sold.items()
        for how in ("plain", "task", "stream")
    ]
    before = counted(stack)
    answers = asyncio.run(ask_all(stack, wishes))
    check_books(sandbox, before, counted(stack), check_images(sandbox, wishes, answers))
    for wish, got in zip(wishes, answers, strict=True):
        record = stack.record(got.request)
        assert (record["cost_source"], record["job_type"]) == (wish.sold.settled, wish.job_type)


EDITING = [each for each in PROVIDERS if any(sold.edits and not sold.required_mask for sold in each.sold.values())]


@pytest.mark.parametrize("provider", EDITING, ids=lambda provider: provider.name)
def test_what_it_can_edit_is_edited(stack: Stack, sandbox: Sandbox, provider: Provider) -> None:
    """Input images from a form or from JSON arrive byte for byte, and what comes back is booked as billed."""
    wishes = [
        Wish(
            {"prompt": f"a hat of {name} {'inline' if inline else 'as a form'}"},
            provider.job_type(name),
            sold,
            files=PICTURES[: sold.edits],
            inline=inline,
        )
        for name, sold in provider.sold.items()
        for inline in (False, True)
        if sold.edits and not sold.required_mask
    ]
    before = counted(stack)
    answers = asyncio.run(ask_all(stack, wishes))
    check_books(sandbox, before, counted(stack), check_images(sandbox, wishes, answers))
    sent = {hashlib.sha256(image).hexdigest() for wish in wishes for image in wish.files if provider.looks}
    assert {file["sha256"] for each in sandbox.requests() for file in each["files"]} == sent


FAILING = [
    pytest.param(
        provider,
        failing,
        id=f"{provider.name}: {failing.name}",
        marks=() if failing.name in QUICK else pytest.mark.slow,
    )
    for provider in PROVIDERS
    for failing in provider.failing
]


@pytest.mark.parametrize(("provider", "failing"), FAILING)
def test_an_error_of_its_page(stack: Stack, sandbox: Sandbox, provider: Provider, failing: Failing) -> None:
    """Whose fault it is, whether it is tried again and what is booked, for everything that it answers with."""
    sold = provider.sold[next(iter(provider.sold))]
    if failing.fault:
        sandbox.fault(failing.fault, provider=provider.persona, times=failing.times, **failing.parameters)
    before = counted(stack)
    files = () if sold.generates else PICTURES[:1]
    body = {"prompt": "a cat", **failing.asked}
    (got,) = asyncio.run(ask_all(stack, [Wish(body, provider.first, sold, files=files, mask=sold.required_mask)]))
    spent = counted(stack).ledger - before.ledger
    assert (got.status, got.error is None) == (failing.status, failing.status == 200), got
    if got.error is not None:
        assert {"message", "type", "param", "code"} <= set(got.error)
        assert failing.code is None or got.error["code"] == failing.code, got.error
        assert failing.param is None or got.error["param"] == failing.param, got.error
        assert failing.said in got.error["message"], got.error
    arrived = [each for each in sandbox.requests() if each["method"] == "POST" and each["provider"] == provider.persona]
    assert len(arrived) == failing.calls
    if failing.presumed:
        assert spent.unconfirmed == spent.route >= billed(sandbox)
        assert spent.route > 0
    elif failing.cautious:
        assert spent.route > billed(sandbox)
    else:
        assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)
    stack.forget()


@each_provider
def test_mixed_requests_cost_what_the_bill_says(stack: Stack, sandbox: Sandbox, provider: Provider) -> None:
    """Sizes, qualities, numbers, edits, streams, tasks and faults: bytes, bill, ledger and metrics all agree."""
    prove(stack, sandbox, provider, FEW)


@pytest.mark.slow
@each_provider
def test_two_hundred_mixed_requests_cost_what_the_bill_says(stack: Stack, sandbox: Sandbox, provider: Provider) -> None:
    """The same over two hundred, others each time they are chosen."""
    prove(stack, sandbox, provider, MANY, seed=2)
