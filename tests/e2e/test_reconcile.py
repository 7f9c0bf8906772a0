"""`image-gateway reconcile`: a real ledger beside invoices, from the first difference to books that say the same."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Posting, Settlement
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, nano, reported, settled
from tests.e2e.books import SANDBOX_COLUMNS, Books, at, sandbox_invoice, usd
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, running_gateway
from tests.ledger.rules import entries


def test_every_class_is_found_told_and_booked_once(books: Books) -> None:
    """Differences of each class are told without booking anything; applied, the books say what the invoice says."""
    books.book("r1", 1_000, "u1")
    books.book("r2", 2_000, "u2")
    books.book("r3", 3_000, "u3")
    books.book("r4", 4_000, presumed=True)
    books.book("r5", 5_000, presumed=True)
    books.write([("u1", usd(1_000), at()), ("u2", usd(2_500), at()), ("r4", usd(3_500), at()), ("x", usd(70), at())])

    told = books.found()
    assert {each["class"]: (each["count"], each["difference_usd"]) for each in told["classes"]} == {
        "matched": (1, "0.00"),
        "other_amount": (1, "0.0000005"),
        "only_ours": (1, "-0.000003"),
        "only_theirs": (1, "0.00000007"),
        "presumed_billed": (1, "-0.0000005"),
        "presumed_unbilled": (1, "-0.000005"),
    }
    assert nano(told["unexplained_usd"]) == 500 + 3_000 + 70 + 500 + 5_000
    assert [each["request"] for each in told["differences"]] == ["r5", "r3", "r2", "r4", None]
    assert books.total() == {"p": 15_000}

    applied = books.found("--apply", status=0)
    assert (applied["applied"]["booked"], applied["left_usd"]) == (5, "0.00")
    assert books.total() == {"p": 1_000 + 2_500 + 3_500, "-": 70}
    assert books.agrees()
    again = books.found("--apply", status=0)
    assert (again["differences"], again["applied"]["booked"], again["unexplained_usd"]) == ([], 0, "0.00")
    known = books.attempt("r4")
    assert (known["state"], known["source"], known["cost"].route) == ("settled", "invoice", 3_500)


def test_a_later_invoice_corrects_an_earlier_one(books: Books) -> None:
    """An amount that goes up and back again is booked each time, since each corrects another state."""
    books.book("r1", 1_000, "u1")
    for cost in (2_000, 1_000, 2_000):
        books.write([("u1", usd(cost), at()), ("x", usd(cost), at())])
        books.found("--apply", status=0)
        assert books.total() == {"p": cost, "-": cost}
    assert books.agrees()


def test_requests_that_the_store_has_forgotten_are_corrected_too(books: Books) -> None:
    """Their project and budgets get the difference back, presumed money is confirmed, and no more is found again."""
    books.book("r1", 4_000_000, "u1")
    books.book("r2", 9_000_000, presumed=True)
    forgotten = [books.names.request(name) for name in ("r1", "r2")]
    books.do(lambda store, _: store.execute("DEL", *forgotten))
    books.write([("u1", usd(1_000_000), at())])

    assert books.found("--apply", status=0)["applied"]["booked"] == 2
    assert books.total() == {"p": 1_000_000}
    assert books.spent() == {1_000}
    assert books.agrees()
    done = books.command("spend", "--window", "total", "--format", "json")
    assert json.loads(done.stdout)["total"]["unconfirmed_usd"] == "0.00"
    assert books.found(status=0)["differences"] == []


@pytest.mark.parametrize("billed", [True, False])
def test_a_refusal_that_was_adjusted_by_hand_is_known_to_the_invoice(books: Books, *, billed: bool) -> None:
    """Nothing was booked on it before, so it counts as a request from then on: it is billed once, or not at all."""
    cost = 40_000_000
    books.held("r1")
    books.do(lambda _, ledger: ledger.void("r1", 1, "refused"))
    assert books.command("ledger", "adjust", "r1", "--cost", "0.04", "--reason", "told by mail").exit_code == 0
    told = json.loads(books.command("spend", "--format", "json").output)["total"]
    assert (told["requests"], told["route_usd"]) == (1, "0.04")

    books.write([("r1" if billed else "r2", usd(cost), at())], head="request,cost_usd,timestamp")
    columns = "request=request,amount=cost_usd,time=timestamp"
    found = {each["class"] for each in books.found("--columns", columns, status=0 if billed else 1)["classes"]}
    assert found == ({"matched"} if billed else {"only_ours", "only_theirs"})
    books.reconcile("--columns", columns, "--apply")
    assert sum(books.total().values()) == cost
    assert books.spent() == ({cost // 1000} if billed else {0})
    assert books.agrees()


def test_a_call_that_was_thought_unbilled_is_paid_by_its_project(books: Books) -> None:
    """The hold was given back, the invoice has the call by our id: project and budgets pay for it, once."""
    books.held("r1")
    books.do(lambda _, ledger: ledger.void("r1", 1, "status_500"))
    books.write([("u1", "r1", usd(5_000_000), at())], "id,ours,usd,at")
    columns = ("--columns", "id=id,request=ours,amount=usd,time=at")

    assert books.found("--apply", *columns, status=0)["applied"]["booked"] == 1
    assert books.total() == {"p": 5_000_000}
    assert books.spent() == {5_000}
    assert books.agrees()
    assert books.found("--apply", *columns, status=0)["applied"]["booked"] == 0


def test_a_call_that_still_runs_is_left_to_its_own_settlement(books: Books) -> None:
    """It is on the invoice already: nothing is booked, and the command says so."""
    books.held("r1")
    books.write([("r1", usd(5_000), at())])

    told = {"booked": 0, "booked_before": 0, "still_running": 1, "lost": 0}
    assert books.found("--apply")["applied"] == told
    assert books.total() == {}


def test_doubled_rows_are_named_and_not_booked(books: Books) -> None:
    """What an invoice has twice is an error of the provider's: it is told with its line until the invoice is mended."""
    books.book("r1", 1_000, "u1")
    now = at()
    books.write([("u1", usd(1_000), now), ("u1", usd(1_000), now)])

    told = books.found("--apply")
    (double,) = told["differences"]
    assert (double["class"], double["lines"], double["difference_usd"]) == ("doubled", "3", "0.000001")
    assert (told["applied"]["booked"], told["left_usd"]) == (0, "0.000001")
    assert books.total() == {"p": 1_000}


def test_bad_rows_are_told_with_their_place_and_nothing_is_booked(books: Books) -> None:
    """Each is a line with file, line and column."""
    books.book("r1", 1_000, "u1")
    books.write([("u1", "1,5", at()), ("u2", "0.5", "soon"), ("", "0.5", at()), ("u1", usd(700), at())])

    done = books.reconcile("--apply")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "invoice.csv:2: cost_usd: '1,5' is not a decimal amount such as 0.0412",
        "invoice.csv:3: timestamp: 'soon' is neither an ISO 8601 time nor Unix seconds",
        "invoice.csv:4: request_id: names no request",
        "image-gateway: invoice.csv: 3 of its rows cannot be read; mend them, or leave them out with --skip-bad",
    ]
    assert books.total() == {"p": 1_000}


def test_what_may_stand_in_a_bad_row_is_not_booked(books: Books) -> None:
    """Not zero for a call whose row is there and cannot be read, and no item of several alone: both are left."""
    books.book("r1", 1_000, "u1")
    books.book("r2", 2_000, "u2")
    books.book("r3", 3_000, "u3")
    books.write([("u1", "1,5", at()), ("u2", usd(700), at()), ("u2", "0,7", at()), ("u3", usd(900), at())])

    done = books.reconcile("--skip-bad")
    assert "2 not to be booked before all rows can be read" in done.stdout
    assert "1 to be booked: run again with --apply" in done.stdout
    told = books.found("--apply", "--skip-bad")
    assert (told["applied"]["booked"], nano(told["left_usd"])) == (1, 1_000 + 1_300)
    assert books.total() == {"p": 1_000 + 2_000 + 900}
    books.write([("u1", usd(1_500), at()), ("u2", usd(1_400), at()), ("u3", usd(900), at())])
    assert books.found("--apply", status=0)["applied"]["booked"] == 2
    assert books.total() == {"p": 1_500 + 1_400 + 900}


def test_no_day_is_booked_whose_rows_cannot_all_be_read(books: Books) -> None:
    """Its sum may lack any of them."""
    books.book("r1", 1_000)
    books.write([(usd(400), at()), ("0,6", at())], "cost_usd,timestamp")
    options = ("--match", "day", "--columns", "amount=cost_usd,time=timestamp", "--skip-bad")
    told = books.found("--apply", *options)
    assert (told["applied"]["booked"], nano(told["left_usd"])) == (0, 600)
    assert books.total() == {"p": 1_000}


SNAPSHOT = "m-2026-04-21"


@pytest.mark.parametrize("asked", ["m", SNAPSHOT])
@pytest.mark.parametrize("match", ["request", "day"])
def test_an_invoice_that_names_what_was_sent_is_about_the_model_of_the_books(
    books: Books, match: str, asked: str
) -> None:
    """With --model it finds what it finds without, of that model alone, whichever of its names is asked for."""
    books.book("r1", 1_000, "u1", upstream_model=SNAPSHOT)
    books.book("r2", 2_000, "u2", upstream_model=SNAPSHOT)
    rows = [("u1", usd(1_000), at(), f"{SNAPSHOT}, input"), ("u2", usd(2_500), at(), SNAPSHOT)]
    columns = ("--match", match, "--columns", "id=request_id,amount=cost_usd,time=timestamp,model=model")
    head = "request_id,cost_usd,timestamp,model"
    books.write(rows, head)
    alone = books.found(*columns)
    books.write([*rows, ("x", usd(9_000), at(), "n-1")], head)

    told = books.found(*columns, "--model", asked)
    assert (told["differences"], told["classes"]) == (alone["differences"], alone["classes"])
    assert [each["model"] for each in told["differences"]] == ["m"]
    assert len(books.found(*columns)["differences"]) == 2
    books.found(*columns, "--model", asked, "--apply", status=0)
    assert books.total("provider") == {"v": 3_500}


def test_a_call_is_of_its_model_whatever_its_row_says(books: Books) -> None:
    """A deployment has a name of its own, which the invoice need not know: the row finds its call by the id."""
    books.book("r1", 1_000, "u1", upstream_model="team-images")
    books.write([("u1", usd(1_000), at(), SNAPSHOT)], "request_id,cost_usd,timestamp,model")
    columns = ("--columns", "id=request_id,amount=cost_usd,time=timestamp,model=model")
    assert books.found(*columns, "--model", "m", "--apply", status=0)["differences"] == []


def test_what_only_the_invoice_has_is_booked_under_the_model_of_the_books(books: Books) -> None:
    """One model has one name in reports. What earlier versions booked under the invoice's name counts beside it."""
    books.book("r1", 1_000, "u1", upstream_model=SNAPSHOT)
    now, head = at(), "request_id,cost_usd,timestamp,model"
    books.write([("u1", usd(1_000), now, SNAPSHOT), ("x", usd(70), now, f"{SNAPSHOT}, output")], head)
    columns = ("--columns", "id=request_id,amount=cost_usd,time=timestamp,model=model")
    books.found(*columns, "--apply", status=0)
    assert books.total("model") == {"m": 1_070}
    about: dict[str, object] = {"provider": "v", "day": f"{datetime.now(UTC):%F}", "model": SNAPSHOT}
    books.do(lambda _, ledger: ledger.post(Posting("a", Views(30, 30, 30), "invoice x", about)))
    books.write([(usd(1_100), now, SNAPSHOT)], "cost_usd,timestamp,model")
    period = [f"--since={datetime.now(UTC):%F}", f"--until={datetime.now(UTC) + timedelta(days=1):%F}"]
    by_day = ("--match", "day", "--columns", "amount=cost_usd,time=timestamp,model=model", *period)
    assert books.found(*by_day, status=0)["differences"] == []


def test_a_model_that_nobody_knows_is_told(books: Books) -> None:
    """All would agree, since nothing was compared."""
    books.book("r1", 1_000, "u1")
    books.write([("u1", usd(1_000), at(), "m")], "request_id,cost_usd,timestamp,model")
    columns = ("--columns", "id=request_id,amount=cost_usd,time=timestamp,model=model")
    done = books.reconcile(*columns, "--model", "mm")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == 'image-gateway: neither invoice nor books have a model "mm"\n'


def test_days_on_which_nothing_was_billed_are_part_of_the_period(books: Books) -> None:
    """A month that ends with free days ends with them; a file of such days alone says that nothing was billed."""
    today = datetime.now(UTC).date()
    days = [f"{today - timedelta(days=ago):%F}" for ago in (3, 2, 1)]
    command = ("reconcile", "invoice.csv", "--provider", "v", "--match", "day", "--format", "json")
    columns = ("--columns", "time=day,model=line_item,amount=amount")
    for first in [(days[0], "m", "0.01")], [(days[0], "", "")]:
        books.write([*first, (days[1], "", ""), (days[2], "", "")], "day,line_item,amount")
        told = json.loads(books.command(*command, *columns).stdout)
        assert (told["since"][:10], told["until"][:10]) == (days[0], f"{today:%F}")


def test_a_cost_export_is_laid_beside_days_and_models(books: Books) -> None:
    """Sums without ids: what is off is booked on day and model, and the next run finds them equal."""
    for number in range(3):
        books.book(f"r{number}", 1_000_000)
    day = books.do(lambda store, _: entries(store, books.realm))[0].time.date().isoformat()
    rows = [
        (day, "m, input", "0.0005"),
        (day, "m image, output", "0.0030000004"),
        (day, "another", "1.5"),
        (day, "", ""),
    ]
    books.write(rows, "day,line_item,amount_value")
    options = ("--match", "day", "--columns", "time=day,model=line_item,amount=amount_value", "--model", "m")
    period = (f"--since={day}", "--until=0s")

    told = books.found(*options, *period)
    (off,) = told["differences"]
    assert (off["class"], off["model"], off["lines"], off["difference_usd"]) == (
        "other_amount",
        "m",
        "2 3",
        "0.000500001",
    )
    books.found("--apply", *options, *period, status=0)
    assert books.total("day") == {day: 3_500_001}
    assert books.total("model") == {"m": 3_500_001}
    assert books.agrees()
    assert books.found(*options, *period, status=0)["differences"] == []
    (books.folder / "policy").mkdir()
    (books.folder / "policy" / "policy.yaml").write_text("projects: {}\n")
    repriced = books.command("spend", "--window", "total", "--by", "model", "--reprice", "policy")
    assert "3 requests and 1 correction have no price there and keep what was booked" in repriced.stderr


@pytest.mark.parametrize("asked", [(), ("--model", "standard"), ("--model", "premium"), ("--model", SNAPSHOT)])
def test_models_that_are_sent_under_one_name_are_one_sum_of_a_day(books: Books, asked: tuple[str, ...]) -> None:
    """The invoice cannot tell them apart; by the id of a call they still are."""
    books.book("r1", 40_000, "u1", model="standard", upstream_model=SNAPSHOT)
    books.book("r2", 60_000, "u2", model="premium", upstream_model=SNAPSHOT)
    columns = ("amount=cost_usd,time=timestamp,model=model", *asked)
    for cost, differences in ((100_000, []), (99_000, ["-0.000001"])):
        books.write([(usd(cost), at(), SNAPSHOT)], "cost_usd,timestamp,model")
        told = books.found("--match", "day", "--columns", *columns, status=len(differences))
        assert [each["difference_usd"] for each in told["differences"]] == differences
    books.write(
        [("u1", usd(40_000), at(), SNAPSHOT), ("u2", usd(61_000), at(), SNAPSHOT)],
        "request_id,cost_usd,timestamp,model",
    )
    of_premium = [] if "standard" in asked else ["premium"]
    told = books.found("--columns", f"id=request_id,{columns[0]}", *asked, status=len(of_premium))
    assert [each["model"] for each in told["differences"]] == of_premium


def test_trimmed_entries_are_read_from_their_export(books: Books) -> None:
    """Without the export it would take all that is trimmed for unbooked: it asks for it instead."""
    books.book("r1", 1_000, "u1")
    books.book("r2", 2_000, "u2")
    trimmed = books.command("ledger", "export", "--to", "export", "--trim", "--keep", "0s")
    assert trimmed.exit_code == 0, trimmed
    books.book("r3", 3_000, "u3")
    books.write([(f"u{number}", usd(number * 1_000), at()) for number in (1, 2, 3)])

    refused = books.reconcile("--apply")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "name the export with --export" in refused.stderr
    assert books.found("--export", "export", status=0)["classes"][0]["count"] == 3
    until = f"--until={datetime.now(UTC) + timedelta(hours=1):%FT%T}"
    unnamed = books.command("reconcile", "invoice.csv", until)
    assert (unnamed.exit_code, unnamed.stdout) == (2, "")
    assert "with --provider, or entries up to" in unnamed.stderr
    later = [f"--{end}={datetime.now(UTC) + timedelta(days=days):%F}" for end, days in (("since", 3), ("until", 4))]
    unknown = books.command("reconcile", "invoice.csv", "--provider", "w", *later)
    assert (unknown.exit_code, "name the export with --export" in unknown.stderr) == (2, True)
    assert "the store has nothing booked at provider" in unknown.stderr
    books.write([("u1", usd(1_500), at()), ("u2", usd(2_000), at()), ("u3", usd(3_000), at())])
    books.found("--apply", "--export", "export", status=0)
    total = books.command("spend", "--window", "total", "--format", "json", "--export", "export")
    assert nano(json.loads(total.stdout)["total"]["route_usd"]) == 6_500
    assert books.agrees()


def test_an_invoice_of_somebody_else_is_not_applied(books: Books) -> None:
    """Not one of its rows is found: that is a wrong column or provider, and nothing is booked."""
    books.book("r1", 1_000, "u1")
    books.write([(f"x{number}", usd(1), at()) for number in range(20)])

    done = books.reconcile("--apply")
    assert (done.exit_code, "are --columns and --provider right?" in done.stderr) == (1, True)
    assert books.total() == {"p": 1_000}


def test_the_table_and_the_csv_say_the_same(books: Books) -> None:
    """The table shows the largest differences and the one figure; CSV has all of them, the figure on stderr."""
    books.book("r1", 1_000, "u1")
    books.write([("u1", usd(4_000), at()), ("x", usd(1_000), at())])

    table = books.reconcile("--top", "1")
    assert "Differences, USD, 1 of 2" in table.stdout
    assert "unexplained: 0.000004 USD" in table.stdout
    assert "2 to be booked: run again with --apply" in table.stdout
    done = books.reconcile("--format", "csv")
    rows = list(csv.DictReader(done.stdout.splitlines()))
    assert [(row["class"], row["difference_usd"]) for row in rows] == [
        ("other_amount", "0.000003"),
        ("only_theirs", "0.000001"),
    ]
    assert "unexplained: 0.000004 USD" in done.stderr


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--columns", "id=number"], 1, "no column is named for amount"),
        (["--columns", "id=request_id,amount=cost"], 1, "no column 'cost' for amount"),
        (["--columns", "request_id"], 2, "is not ROLE=COLUMN"),
        (["--currency-unit", "eur"], 2, "is not a unit of money"),
        (["--tolerance", "-1"], 2, "is not a decimal amount"),
        (["--edge", "soon"], 2, "is not a length of time"),
        (["--since", "someday"], 1, "is not a day"),
        (["--until", "2020-01-01"], 1, "before it begins"),
        (["--model", "m"], 2, "name its column with --columns model=COLUMN"),
    ],
)
def test_what_is_asked_wrongly_is_told_in_one_line(books: Books, options: list[str], status: int, words: str) -> None:
    """What to write instead, and the file where it is the file's; what no file could make right is a wrong argument."""
    books.write([("u1", "1", at())])
    done = books.reconcile(*options)
    assert (done.exit_code, done.stdout, len(done.stderr.splitlines())) == (status, "", 1)
    assert done.stderr.startswith("image-gateway: " + "invoice.csv: " * (status == 1))
    assert words in done.stderr


def test_an_unfinished_day_is_not_taken_for_a_whole_one(books: Books) -> None:
    """What was booked after the invoice was written is not on it: a look goes up to now, --apply has to be told."""
    books.book("r1", 1_000, "u1")
    books.write([("u1", usd(1_000), at())])
    asked = ("reconcile", "invoice.csv", "--provider", "v", "--format", "json")
    done = books.command(*asked)
    assert (done.exit_code, "Say with --until until when it goes" in done.stderr) == (0, True)
    assert datetime.now(UTC) - datetime.fromisoformat(json.loads(done.stdout)["until"]) < timedelta(minutes=10)
    done = books.command(*asked, "--apply")
    assert (done.exit_code, "say with --until until when it goes" in done.stderr) == (1, True)
    yesterday = datetime.now(UTC) - timedelta(days=1)
    books.write([("u9", usd(70), yesterday.isoformat())])
    told = json.loads(books.command("reconcile", "invoice.csv", "--provider", "v", "--format", "json").stdout)
    assert (told["since"], told["until"]) == (
        f"{yesterday:%F}T00:00:00+00:00",
        f"{datetime.now(UTC):%F}T00:00:00+00:00",
    )
    assert [each["class"] for each in told["differences"]] == ["only_theirs"]


def test_the_only_provider_in_the_books_need_not_be_named(books: Books) -> None:
    """Its name stands in the outcome; of several all names are told, and nothing is done."""
    until = f"--until={datetime.now(UTC) + timedelta(hours=1):%FT%T}"
    books.book("r1", 1_000, "u1")
    books.write([("u1", usd(1_000), at())])
    alone = books.command("reconcile", "invoice.csv", "--format", "json", until)
    told = json.loads(alone.stdout)
    assert (alone.exit_code, told["provider"], told["differences"]) == (0, "v", [])
    books.held("r2", provider="w")
    settlement = Settlement("r2", 1, Views(5, 5, 5), CostSource.USAGE, 1)
    books.do(lambda _, ledger: ledger.settle(settlement))
    several = books.command("reconcile", "invoice.csv", until)
    assert (several.exit_code, several.stdout) == (2, "")
    assert several.stderr.endswith("with --provider: the books have v, w\n")
    assert books.command("reconcile", "invoice.csv", "--provider", "v", until).exit_code == 0


def test_a_provider_that_is_misspelt_is_told_and_nothing_is_booked(books: Books) -> None:
    """Its invoice would be booked a second time, all of it as what only the invoice has."""
    books.write([("u1", usd(1_000), at())])
    until = f"--until={datetime.now(UTC) + timedelta(hours=1):%FT%T}"
    books.held("r1", provider="openai")
    settlement = Settlement(
        "r1", 1, Views(1_000, 1_000, 1_000), CostSource.USAGE, 1, None, {"upstream_request_id": "u1"}
    )
    books.do(lambda _, ledger: ledger.settle(settlement))
    done = books.command("reconcile", "invoice.csv", "--provider", "opnai", until, "--apply")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        'image-gateway: nothing was ever booked at provider "opnai" (did you mean openai?); the books have openai\n'
    )
    assert books.total("provider") == {"openai": 1_000}
    assert books.command("reconcile", "invoice.csv", "--provider", "openai", until, "--apply").exit_code == 0


def test_what_was_booked_under_a_wrong_name_is_taken_back(books: Books) -> None:
    """An invoice of the same period without any row: it bills nothing, so all that stands there is taken out again."""
    books.book("r1", 1_000, "u1")
    about: dict[str, object] = {"provider": "opnai", "day": f"{datetime.now(UTC):%F}"}
    posting = Posting("a", Views(70, 70, 70), "invoice x", about)
    books.do(lambda _, ledger: ledger.post(posting))
    assert books.total("provider") == {"v": 1_000, "opnai": 70}
    books.write([])
    begins = datetime.now(UTC) - timedelta(days=1)
    period = [f"--since={begins:%F}", f"--until={begins + timedelta(days=2):%FT%T}", "--edge=0s"]
    done = books.command("reconcile", "invoice.csv", "--provider", "opnai", *period, "--apply")
    assert done.exit_code == 0, done.output
    assert books.total("provider") == {"v": 1_000, "opnai": 0}
    assert books.agrees()


def test_what_is_no_table_of_rows_is_told_as_what_it_is(books: Books) -> None:
    """A JSON answer of the provider's API, or a head alone, says nothing of columns or times that are wrong."""
    (books.folder / "invoice.csv").write_text(json.dumps([{"object": "bucket"}]))
    assert "invoice.csv: is JSON, and CSV is read" in books.reconcile().stderr
    books.write([])
    done = books.command("reconcile", "invoice.csv", "--provider", "v")
    assert "invoice.csv: has no rows, so say with --since and --until" in done.stderr


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """A spreadsheet given by mistake is told as such."""
    (tmp_path / "invoice.csv").write_bytes(b"PK\x03\x04\xff\xfe")
    command = [sys.executable, "-m", "gateway", "reconcile", "invoice.csv", "--provider", "v"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "image-gateway: invoice.csv: is not UTF-8 text\n")


@pytest.mark.parametrize("ours", [True, False])
async def test_after_its_invoice_the_ledger_is_the_bill_to_the_nano_dollar(
    tmp_path: Path, sandbox: Sandbox, ours: bool
) -> None:
    """Real requests, some with lost answers, billed or not: applied, ledger and bill agree and nothing is presumed."""
    with running_gateway(tmp_path, ONE_ACCOUNT, sandbox) as stack:
        sandbox.fault("lost_response", times=3)
        sandbox.fault("reset", times=2, billed=False)
        sandbox.fault("reset", times=2, billed=True)
        bodies = [{"prompt": f"boat {number}", "n": 1 + number % 3, "quality": "low"} for number in range(24)]
        replies = await crowd(
            [Ask(body, ("team", "other")[n % 2]) for n, body in enumerate(bodies)], [stack], at_once=4
        )
        assert Counter(reply.status == 200 for reply in replies)[False] == 7
        settled(stack)
        assert booked(stack).unconfirmed > 0
        sandbox_invoice(sandbox, tmp_path / "bill.csv", ours=ours)
        check_applied(stack, tmp_path / "bill.csv", ours=ours)


def check_applied(stack: Stack, invoice: Path, *, ours: bool) -> None:
    """Reconcile with the bill; afterwards every report says what the bill says."""
    options = ["reconcile", str(invoice), "--provider", "main", "--columns", SANDBOX_COLUMNS, "--format", "json"]
    options += ["--since", "2h", "--until", f"{datetime.now(UTC) + timedelta(hours=1):%FT%T}", "--edge", "0s"]
    told = stack.command(*options)
    assert told.returncode == 1, told.stderr
    counts = {each["class"]: each["count"] for each in json.loads(told.stdout)["classes"]}
    billed_unknown = (
        {"presumed_billed": 5, "presumed_unbilled": 2} if ours else {"presumed_unbilled": 7, "only_theirs": 5}
    )
    assert counts == {"matched": 17, **billed_unknown}

    applied = stack.command(*options, "--apply")
    assert applied.returncode == 0, applied.stderr
    rows, total = reported(stack)
    assert (total.route, total.unconfirmed) == (billed(stack.sandbox), 0)
    assert booked(stack) == total
    assert ("-" in {row["project"] for row in rows}) is not ours
    assert json.loads(stack.command(*options).stdout)["differences"] == []
    assert stack.command("ledger", "verify").returncode == 0
