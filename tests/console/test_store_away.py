"""The console before the ledger was read, and while the store does not answer: nothing is claimed that nobody knows."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from playwright.sync_api import Browser

from gateway.sandbox.client import Sandbox
from tests.console.conftest import POLICY, look
from tests.e2e.stack import Stack, fetch, running_gateway
from tests.e2e.test_outages import Valkey

COUNT = 3


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Valkey]:
    """A store with bookings of a gateway that is gone."""
    home = tmp_path_factory.mktemp("v")
    store = Valkey(home)
    store.start()
    try:
        with gateway_on(store, "first", sandbox) as stack:
            for number in range(COUNT):
                made = stack.post("/v1/images/generations", {"prompt": f"picture {number}", "quality": "low"})
                assert made.status == 200, made.body
        yield store
    finally:
        store.kill()


@contextmanager
def gateway_on(store: Valkey, name: str, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that has read nothing yet."""
    environ = {"IMAGE_GATEWAY_STORE": store.url, "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4}
    (store.home / name).mkdir()
    with running_gateway(store.home / name, POLICY, sandbox, environ=environ) as running:
        yield running


@contextmanager
def frozen(store: Valkey) -> Iterator[None]:
    """Meanwhile the store answers nothing, and its connections stay."""
    assert store.process is not None
    store.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            store.process.send_signal(signal.SIGCONT)


def test_the_first_answer_is_of_one_moment(valkey: Valkey, sandbox: Sandbox) -> None:
    """What it says of how far the ledger was read is so of its figures."""
    with gateway_on(valkey, "fresh", sandbox) as stack:
        told = fetch(f"http://127.0.0.1:{stack.admin_port}/console/api/overview").json

    shown = {name for name, row in told["sums"].items() if isinstance(row, dict) and row["requests"]}
    assert bool(told["spend"]["series"]) == bool(shown) == bool(told["entries"]), told
    if told["read"] == 1:
        assert told["entries"] == COUNT


def test_spend_says_that_the_ledger_does_not_answer(valkey: Valkey, sandbox: Sandbox, browser: Browser) -> None:
    """Before anything was read, and of figures that were; once the store answers, nothing of it is left."""
    with gateway_on(valkey, "looked at", sandbox) as stack:
        context = browser.new_context()
        seen = look(context, f"http://127.0.0.1:{stack.admin_port}")
        away = "The ledger does not answer"
        with frozen(valkey):
            seen.go("spend")
            seen.shows(away)
            assert "Nothing was spent" not in seen.text()
            seen.page.wait_for_selector("#live[data-state=away]")
        seen.page.wait_for_selector("#live[data-state=live]")
        seen.page.wait_for_selector("[data-figure=total]")
        seen.page.wait_for_function("word => !document.body.innerText.includes(word)", arg=away)
        with frozen(valkey):
            seen.shows(away)
            assert seen.page.locator("[data-figure=total]").count() == 1
            seen.page.wait_for_selector("#live[data-state=away]")
        seen.page.wait_for_function("word => !document.body.innerText.includes(word)", arg=away)
        context.close()
