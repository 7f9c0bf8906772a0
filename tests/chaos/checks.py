"""What must be true of the books once everything has come to rest; each check returns what it found wrong, in words."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta

from tests.chaos.books import Account, Books, Charge, by_client, read_bill
from tests.chaos.fleet import Fleet
from tests.chaos.load import Heard
from tests.chaos.upstream import ACCOUNTS

log = logging.getLogger(__name__)

SHOWN = 5


def few(what: str, found: Collection[object]) -> list[str]:
    """Some of what was found, and how much there is; nothing if there is nothing."""
    return [f"{what}: {len(found)}, such as {list(found)[:SHOWN]}"] if found else []


async def before_invoice(fleet: Fleet, books: Books, heard: Heard) -> list[str]:
    """Nothing billed is missing, nothing told to a client is untrue, nothing was made twice, and the parts agree."""
    bill, accounts = read_bill(fleet.bill), await books.accounts()
    log.warning("%d calls billed, %d requests booked, last by %s", len(bill), len(accounts), _sources(accounts))
    booked = {name: account.total for name, account in accounts.items()}
    return [
        *few("billed above what is booked", _differing(by_client(bill), booked, lambda truth, ours: ours < truth)),
        *few("told another cost than is booked", _differing(heard.costs, booked, lambda told, ours: ours != told)),
        *few("streams that were read and are not booked", heard.streams - accounts.keys()),
        *few("answered by a fault of ours (500)", ["500"] * heard.statuses["500"]),
        *few("made twice though they had an Idempotency-Key", made_twice(bill) & heard.keyed),
        *few("balances that are not the sum of their entries", await books.disagreements()),
    ]


async def after_invoice(fleet: Fleet, books: Books) -> list[str]:
    """Once both accounts' invoices are reconciled, the books are the bill, and verification agrees."""
    bill = read_bill(fleet.bill)
    for account in ACCOUNTS.values():
        _reconcile(fleet, books, account, [charge for charge in bill if charge.account == account])
    booked = {name: account.total for name, account in (await books.accounts()).items()}
    return [
        *few("booked otherwise than billed", _differing(booked, by_client(bill), lambda ours, truth: ours != truth)),
        *few("balances that are not the sum of their entries, in the end", await books.disagreements()),
        *few("held in the end", await books.held()),
        *few("over a limit in the end", await books.over_limit()),
        *verified(fleet, books),
    ]


def _reconcile(fleet: Fleet, books: Books, account: str, charges: Iterable[Charge]) -> None:
    """Write the account's invoice and have `image-gateway reconcile` book all that differs."""
    invoice = fleet.directory / f"invoice-{account}.csv"
    with invoice.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("id", "request", "time", "nano"))
        rows.writerows(
            (c.request, c.client, datetime.fromtimestamp(c.at, UTC).isoformat(), c.nano_usd) for c in charges
        )
    columns = ("--columns", "id=id,request=request,time=time,amount=nano", "--currency-unit", "nano")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()  # the trial is over, all of it was billed
    period = ("--until", tomorrow, "--edge", "0s")
    done = fleet.command(
        "reconcile", str(invoice), "--provider", account, *columns, *period, "--apply", *_exports(books)
    )
    log.warning("reconcile %s: %d\n%s%s", account, done.returncode, done.stdout[-1500:], done.stderr[-1500:])


def _exports(books: Books) -> list[str]:
    return [word for path in books.exports for word in ("--export", str(path))]


def verified(fleet: Fleet, books: Books) -> list[str]:
    """What `image-gateway ledger verify` finds wrong."""
    done = fleet.command("ledger", "verify", "--thorough", *_exports(books))
    return [f"ledger verify: {done.returncode}: {done.stdout}{done.stderr}"] if done.returncode else []


def made_twice(bill: Iterable[Charge]) -> set[str]:
    """Markers of requests that were billed more than once."""
    times = Counter(charge.prompt.partition(" ")[0] for charge in bill)
    return {marker for marker, count in times.items() if count > 1}


def _differing(
    asked: Mapping[str, int], known: Mapping[str, int], wrong: Callable[[int, int], bool]
) -> list[tuple[str, int, int]]:
    return [(name, cost, known.get(name, 0)) for name, cost in asked.items() if wrong(cost, known.get(name, 0))]


def _sources(accounts: Mapping[str, Account]) -> dict[str, int]:
    return dict(Counter(account.sources[-1] for account in accounts.values()))
