"""A gateway whose admin plane has a token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, running_gateway

TOKEN = "admin-token-of-these-tests-4711"


@dataclass(frozen=True)
class Planes:
    """Where both planes are, and what opens them."""

    stack: Stack
    client: Mapping[str, str]
    admin: Mapping[str, str]

    @property
    def port(self) -> int:
        """The data plane's."""
        return self.stack.port

    @property
    def admin_port(self) -> int:
        """The admin plane's."""
        return self.stack.admin_port


@pytest.fixture(scope="package")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider."""
    with running_sandbox() as running:
        yield running


@pytest.fixture(scope="package")
def planes(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Planes]:
    """A gateway that refuses nobody for wrong keys, with a key of a project and the admin token."""
    environ = {"IMAGE_GATEWAY_ADMIN_TOKEN": TOKEN}
    directory = tmp_path_factory.mktemp("security")
    with running_gateway(directory, ONE_ACCOUNT, sandbox, "--max-wrong-keys", "0", environ=environ) as stack:
        admin = {"authorization": f"Bearer {TOKEN}"}
        yield Planes(stack, {"authorization": f"Bearer {stack.key()}"}, admin)
