"""One gateway for the tests that can share it; others start their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, running_gateway


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider without latency."""
    with running_sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway in front of it with a generous budget."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), ONE_ACCOUNT, sandbox) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean_sandbox(sandbox: Sandbox) -> None:
    sandbox.reset()
