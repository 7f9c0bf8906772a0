"""Books that are laid beside invoices: a realm of a running store, the commands on it, and invoices to write."""

from __future__ import annotations

import asyncio
import csv
import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from click.testing import CliRunner
from click.testing import Result as Done

from gateway.cli.main import main
from gateway.domain.budget import Scope
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement
from gateway.ledger.names import Names
from gateway.ledger.redis_ledger import RedisLedger
from gateway.ledger.store import Store
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import nano
from tests.ledger.rules import balances, budget, candidate, hold

Cells = Sequence[object]
Result = TypeVar("Result")

SANDBOX_COLUMNS = "id=id,request=request,amount=usd,time=time,model=model,images=images"


class Books:
    """A realm of its own, and the commands on it. Amounts are nano-USD, the same in every view."""

    def __init__(self, server: str, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.realm = secrets.token_hex(6)
        self.names = Names(self.realm)
        self.rules = budget(10**9), budget(10**9, scope=Scope(project="p"))

    def do(self, work: Callable[[Store, RedisLedger], Awaitable[Result]]) -> Result:
        """Do something with the store and the ledger in it."""

        async def run() -> Result:
            store = Store(self.server, deadline=30.0)
            ledger = RedisLedger(store, self.realm)
            try:
                return await work(store, ledger)
            finally:
                await ledger.aclose()
                await store.aclose()

        return asyncio.run(run())

    def held(self, request_id: str, provider: str = "v", **facts: str) -> None:
        """Hold a dollar."""
        route = candidate(*((rule, 10**6) for rule in self.rules), worst=10**9)
        route = replace(route, facts={**route.facts, "provider": provider, **facts})
        self.do(lambda _, ledger: hold(ledger, request_id, route))

    def book(
        self, request_id: str, cost: int, upstream: str | None = None, *, presumed: bool = False, **told: str
    ) -> None:
        """Hold and settle; the provider called it `upstream`."""
        self.held(request_id, **told)
        source = CostSource.PRESUMED if presumed else CostSource.USAGE
        facts: dict[str, object] = {"upstream_request_id": upstream} if upstream else {}
        settlement = Settlement(request_id, 1, Views(cost, cost, cost), source, int(not presumed), facts=facts)
        self.do(lambda _, ledger: ledger.settle(settlement))

    def attempt(self, request_id: str) -> Any:
        """What the ledger remembers of a request's only attempt."""
        record = self.do(lambda _, ledger: ledger.request(request_id))
        assert record is not None
        (attempt,) = cast("list[object]", record["attempts"])
        return attempt

    def spent(self) -> set[int]:
        """What each budget has spent, micro-USD."""
        return {spent for spent, _ in self.do(lambda store, _: balances(store, self.realm)).values()}

    def write(self, rows: Sequence[Cells], head: str = "request_id,cost_usd,timestamp") -> None:
        """Write the invoice."""
        with (self.folder / "invoice.csv").open("w", newline="") as file:
            csv.writer(file).writerows([head.split(","), *rows])

    def command(self, *arguments: str) -> Done:
        """Run `image-gateway` on this store and realm, in its folder."""
        every = [*arguments, "--store", self.server, "--realm", self.realm]
        done = CliRunner().invoke(main, every)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def reconcile(self, *options: str) -> Done:
        """Run it on the invoice, an hour to both sides of now."""
        now = datetime.now(UTC)
        period = [f"--since={now - timedelta(hours=1):%FT%T}", f"--until={now + timedelta(hours=1):%FT%T}"]
        return self.command("reconcile", "invoice.csv", "--provider", "v", "--edge", "0s", *period, *options)

    def found(self, *options: str, status: int = 1) -> Any:
        """Return what it found as JSON."""
        done = self.reconcile("--format", "json", *options)
        assert done.exit_code == status, done.output
        return json.loads(done.stdout)

    def total(self, by: str = "project") -> dict[str, int]:
        """What the report says was spent, nano-USD by group."""
        done = self.command("spend", "--window", "total", "--by", by, "--format", "json")
        return {row[by]: nano(row["route_usd"]) for row in json.loads(done.stdout)["rows"]}

    def agrees(self) -> bool:
        """Whether every balance is what the entries say."""
        return self.command("ledger", "verify").exit_code == 0


def at() -> str:
    """Now, as invoices write it."""
    return datetime.now(UTC).isoformat()


def usd(cost: int) -> str:
    """Nano-USD with all nine decimals."""
    return f"{cost / 10**9:.9f}"


def sandbox_invoice(sandbox: Sandbox, path: Path, *, ours: bool) -> None:
    """Write the sandbox's bill as an invoice; `ours` adds the ids that the gateway sent along."""
    sent = {each["request"]: dict(each["headers"]).get("x-client-request-id", "") for each in sandbox.requests()}
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "request", "usd", "time", "model", "images"])
        for line in sandbox.bill()["lines"]:
            own = sent[line["request"]] if ours else ""
            writer.writerow([line["request"], own, line["amount_usd"], line["at"], line["model"], line["images"]])
