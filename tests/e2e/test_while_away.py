"""The store is away: what runs is settled on disk first, and what policy grants is served on an allowance."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, nano, nothing_held, settled, upstream_id
from tests.e2e.policies import tight
from tests.e2e.stack import Stack, running_gateway, wait_until
from tests.e2e.test_outages import BODY, PATH, Caller, Valkey, readiness, state, valkey

__all__ = ["valkey"]

GRANT = '    while_ledger_away: {{allowance: "{}"}}\n'
PEPPER = "0123456789abcdef" * 4


@contextlib.contextmanager
def gateway(home: Path, sandbox: Sandbox, store: str, *options: str, allowance: str = "") -> Iterator[Stack]:
    """A gateway on this store, with an allowance if one is given."""
    home.mkdir(exist_ok=True)
    policy = tight("100", timeout="60s") + (GRANT.format(allowance) if allowance else "")
    environ = {"IMAGE_GATEWAY_STORE": store, "IMAGE_GATEWAY_PEPPER": PEPPER}
    with running_gateway(home, policy, sandbox, *options, environ=environ) as stack:
        yield stack


def test_a_gateway_killed_while_its_store_is_away_books_exactly_what_it_cost(
    tmp_path: Path, sandbox: Sandbox, valkey: Valkey
) -> None:
    """The settlement was on disk before the last byte: the next start corrects the presumed cost by it."""
    sandbox.fault("slow", seconds=2)
    with gateway(tmp_path / "g", sandbox, valkey.url, "--lease", "2") as stack:
        caller = Caller(stack)
        request_id = upstream_id(sandbox)
        valkey.kill()
        assert caller.reply().status == 200
        stack.stop(signal.SIGKILL)
    valkey.start()
    with gateway(tmp_path / "g", sandbox, valkey.url, "--lease", "2") as again:
        wait_until(lambda: state(again, request_id) == "settled", 30, "the settlement")
        settled(again)
        assert booked(again).unconfirmed == 0
        assert booked(again).route == billed(sandbox) > 0
        assert list((again.data / "journal").iterdir()) == [] or not any(
            path.stat().st_size for path in (again.data / "journal").iterdir()
        )


def test_an_allowance_serves_while_the_store_is_away(tmp_path: Path, sandbox: Sandbox, valkey: Valkey) -> None:
    """Two images fit, the third gets 503; when the store is back all that was billed is booked, and serving goes on."""
    with gateway(tmp_path / "g", sandbox, valkey.url, allowance="0.02") as stack:
        first = stack.post(PATH, BODY)
        worst = nano(first.headers["x-gateway-cost-estimate"])
        fit = 20_000_000 // worst
        assert fit >= 1
        valkey.kill()
        served = [stack.post(PATH, BODY) for _ in range(fit)]
        assert [reply.status for reply in served] == [200] * fit
        assert all("x-gateway-budget-remaining" not in reply.headers for reply in served)
        refused = stack.post(PATH, BODY)
        assert (refused.status, refused.error["code"]) == (503, "ledger_unavailable")
        assert readiness(stack) == 503
        valkey.start()
        wait_until(lambda: readiness(stack) == 200, 30, "readiness")
        settled(stack)
        wait_until(lambda: booked(stack).route == billed(sandbox), 30, "the books")
        assert nothing_held(stack)
        assert [state(stack, reply.headers["x-request-id"]) for reply in served] == ["settled"] * fit
        assert stack.post(PATH, BODY).status == 200
