"""One sandbox, and one gateway for all pages about clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.stack import Stack, running_gateway

CLIENTS = Path(__file__).parents[2] / "docs/how-to/clients.yaml"


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Simulated providers that do not dawdle."""
    with running_sandbox(SandboxOptions(latency=0, work_seconds=0.1)) as running:
        yield running


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """What the pages about clients speak to."""
    with running_gateway(tmp_path_factory.mktemp("clients"), CLIENTS.read_text(), sandbox) as running:
        yield running
