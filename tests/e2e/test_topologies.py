"""The main job on a Redis Cluster and behind Sentinels, and what becomes of it when a master is killed under load."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, running_gateway, wait_until
from tests.ledger.topologies import Cluster, Server, Trio, redis_cluster, sentinel_trio

POLICY = tight("100", timeout="60s")
PATH = "/v1/images/generations"
ASK = Ask({"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"})
REALM = "main"


def _of_cluster(found: Cluster) -> Server:
    return found.serving(REALM)


def _of_trio(found: Trio) -> Server:
    return found.primary()


FORMATIONS: dict[str, tuple[Callable[[Path], AbstractContextManager[Cluster | Trio]], Callable[..., Server]]] = {
    "cluster": (lambda directory: redis_cluster(directory, replicas=True), _of_cluster),
    "sentinels": (sentinel_trio, _of_trio),
}


async def until_killed(stacks: list[Stack], master: Server) -> list[int]:
    """Ask without pause from two gateways, the master being killed in between; returns what came back."""
    statuses: list[int] = []
    for number in range(40):
        if number == 10:
            master.kill()
        statuses += [reply.status for reply in await crowd([ASK] * 4, stacks, at_once=4)]
    return statuses


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", FORMATIONS)
def test_two_gateways_and_a_master_that_is_killed_under_load(name: str, tmp_path: Path, sandbox: Sandbox) -> None:
    """Every image is booked at its bill, before, while and after; refusals are 503, and nothing is left held."""
    start, serving = FORMATIONS[name]
    with start(tmp_path / "servers") as formation:
        environ = {"IMAGE_GATEWAY_STORE": formation.url, "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4}
        with (
            running_gateway(_made(tmp_path / "a"), POLICY, sandbox, "--lease", "3", environ=environ) as first,
            running_gateway(_made(tmp_path / "b"), POLICY, sandbox, "--lease", "3", environ=environ) as second,
        ):
            assert [reply.status for reply in asyncio.run(crowd([ASK] * 20, [first], at_once=5))] == [200] * 20
            assert booked(first).route == billed(sandbox) > 0
            second.keys.update(first.keys)

            statuses = asyncio.run(until_killed([first, second], serving(formation)))
            assert set(statuses) <= {200, 503}
            assert 200 in statuses[:40]
            for each in (first, second):
                wait_until(lambda each=each: each.post(PATH, ASK.body).status == 200, 30, "a new master")

            wait_until(lambda: _is_settled(first) and booked(first).route == booked(second).route, 30, "quiet books")
            settled(first)
            assert booked(first).route - booked(first).unconfirmed <= billed(sandbox) <= booked(first).route
            found = first.command("ledger", "verify", "--thorough")
            assert found.returncode == 0, found.stdout + found.stderr


def _is_settled(stack: Stack) -> bool:
    try:
        settled(stack)
    except AssertionError:
        return False
    return True


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
