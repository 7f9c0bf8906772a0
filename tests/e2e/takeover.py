"""Gateways on one store and one disk, of which one takes over what another has left behind."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.failpoint import VARIABLE
from gateway.ledger.store import store_url
from gateway.sandbox.client import Sandbox
from tests.e2e.stack import Stack, running_gateway, wait_until

LEASE = "2"
PATIENCE = 60.0


@dataclass
class Pair:
    """Gateways on one store and one disk, started one by one; `policy` is that of whoever is given no other."""

    directory: Path
    sandbox: Sandbox
    store: str
    started: contextlib.ExitStack
    policy: str
    keys: dict[str, str] = field(default_factory=dict)

    def gateway(
        self, name: str, failpoint: str | None = None, *, policy: str | None = None, log_level: str = "info"
    ) -> Stack:
        """Start one, which is to die at a failpoint."""
        environ = {"IMAGE_GATEWAY_STORE": self.store, "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4}
        environ |= {VARIABLE: failpoint} if failpoint else {}
        own = self.directory / name
        own.mkdir()
        options = ("--lease", LEASE, "--assets", str(self.directory / "assets"), "--log-level", log_level)
        running = running_gateway(own, policy or self.policy, self.sandbox, *options, environ=environ)
        stack = self.started.enter_context(running)
        stack.keys.update(self.keys)
        self.keys["team"] = stack.key()
        return stack


@contextlib.contextmanager
def heirs(directory: Path, sandbox: Sandbox, policy: str) -> Iterator[Pair]:
    """A store of their own; what is started is stopped."""
    (directory / "store").mkdir()
    with store_url("embedded:", directory / "store") as url, contextlib.ExitStack() as started:
        yield Pair(directory, sandbox, url, started, policy)


def dead(stack: Stack) -> None:
    """Wait until a gateway has died."""
    wait_until(lambda: stack.process.poll() is not None, PATIENCE, "the kill")


def tasks_of(stack: Stack) -> list[Any]:
    """Every task of the project, as this gateway tells of them."""
    found: list[Any] = []
    page: Any = {"has_more": True}
    while page["has_more"]:
        after = f"&after={found[-1]['id']}" if found else ""
        page = stack.get(f"/v1/tasks?limit=100{after}").json
        found += page["data"]
    return found


def all_ended(stack: Stack, seconds: float = PATIENCE) -> list[Any]:
    """Wait until every task has ended, and return them."""

    def look() -> list[Any]:
        found = tasks_of(stack)
        return found if all(each["status"] not in ("pending", "processing") for each in found) else []

    return list(wait_until(look, seconds, "the end of every task"))
