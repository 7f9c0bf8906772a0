"""One gateway for the tests that can share it; others start their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.ledger.embedded import embedded_store
from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import DEFAULT_KEY, SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.books import Books
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, running_gateway


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider without latency, which accepts no key but that of the policies."""
    with running_sandbox(SandboxOptions(latency=0, api_key=DEFAULT_KEY)) as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway in front of it with a generous budget."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), ONE_ACCOUNT, sandbox) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean_sandbox(sandbox: Sandbox) -> None:
    sandbox.reset()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running store's URL."""
    with embedded_store(tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture
def books(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Books:
    """Empty books, in the folder where commands run."""
    monkeypatch.chdir(tmp_path)
    return Books(server, tmp_path)
