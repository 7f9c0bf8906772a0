"""Write: what the headers say of the decision."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.domain.budget import Budget, Counted, Held, Line, Quota, Scope, Window
from gateway.domain.route import Quote, Views
from gateway.steps import write as steps_write
from gateway.steps.write import write
from tests.builders import GPT_IMAGE_2, TODAY, job, route


def headers(degraded: Mapping[str, str]) -> dict[str, str]:
    """The headers of a quote that policy changed so."""
    price = GPT_IMAGE_2.prices[0]
    quote = Quote(route("main"), job(), {}, Views(1, 1, 1), price, price, degraded=degraded)
    return dict(write("req_1", "draft", quote, 1, lambda: TODAY))


def test_what_was_changed_to_save_money_stands_in_a_header() -> None:
    """One change or several, in the order in which they were made; no header where nothing was changed."""
    assert headers({"quality": "medium"})["X-Gateway-Degraded"] == "quality=medium"
    several = headers({"quality": "low", "size": "1024x1024", "n": "1"})
    assert several["X-Gateway-Degraded"] == "quality=low, size=1024x1024, n=1"
    assert "X-Gateway-Degraded" not in headers({})


DAY, MONTH = Budget(Scope(), Window.DAY, 9_000_000), Budget(Scope(), Window.MONTH, 5_000_000)
SLOW, FAST = Quota(Scope(), Counted.IMAGES, 50, 3600), Quota(Scope(), Counted.IMAGES, 10, 60)
IN_FLIGHT = Quota(Scope(), Counted.CONCURRENT, 3)


def remaining(held: Held) -> dict[str, str]:
    """The headers of a hold that say what is left."""
    price = GPT_IMAGE_2.prices[0]
    quote = Quote(route("main"), job(), {}, Views(1, 1, 1), price, price)
    headers = dict(write("req_1", "draft", quote, 1, lambda: TODAY, held=held))
    return {name: value for name, value in headers.items() if "emaining" in name or "ratelimit" in name}


def held(*left: tuple[Budget | Quota, int, int]) -> Held:
    """A hold that left so much of each rule, for so many milliseconds."""
    figures = [figure for _, *figures in left for figure in figures]
    return Held(0, 1, tuple(Line(rule, 1) for rule, _, _ in left), figures)


def test_the_tightest_of_what_is_left_is_told() -> None:
    """Of budgets the least money, of quotas of images the fewest, with that one's limit and reset; never below none."""
    told = remaining(held((DAY, 70_000, 5), (SLOW, 4, 2500), (IN_FLIGHT, 0, 0), (MONTH, 60_000, 7), (FAST, 3, 1250)))
    assert told == {
        "X-Gateway-Budget-Remaining": "0.06",
        "x-ratelimit-limit-images": "10",
        "x-ratelimit-remaining-images": "3",
        "x-ratelimit-reset-images": "1.250s",
    }
    assert remaining(held((IN_FLIGHT, 1, 0))) == {}
    below = remaining(held((DAY, -5, 0), (FAST, -1, -3)))
    assert set(below.values()) == {"0.00", "10", "0", "0.000s"}


def test_what_a_route_or_its_account_has_left_is_nobodys_quota() -> None:
    """The limit of a shared account is not told as if it were the client's own: other routes may serve."""
    of_route = Quota(Scope(route="main"), Counted.IMAGES, 1, 60)
    of_account = Quota(Scope(provider="openai"), Counted.IMAGES, 5, 60)
    own = Quota(Scope(project="team", route="main"), Counted.IMAGES, 7, 60)
    assert remaining(held((of_route, 0, 60_000), (of_account, 1, 60_000))) == {}
    told = remaining(held((of_route, 0, 60_000), (SLOW, 4, 2500), (of_account, 1, 60_000)))
    assert (told["x-ratelimit-limit-images"], told["x-ratelimit-remaining-images"]) == ("50", "4")
    assert remaining(held((of_route, 0, 60_000), (own, 2, 1000)))["x-ratelimit-limit-images"] == "7"


def test_what_is_kept_of_lines_is_told_of_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds on the same lines, on equal ones and on others each tell of their own figures, however many there were."""
    monkeypatch.setattr(steps_write, "REMEMBERED", 2)
    first = held((DAY, 70_000, 5), (SLOW, 4, 2500))
    for number in range(5):
        same = Held(0, 1, first.lines, [number * 10_000, 0, number, 0])
        other = held((SLOW, number + 1, 0), (IN_FLIGHT, 9, 9), (DAY, (number + 2) * 10_000, 0))
        for each, budget, images in ((same, number, number), (other, number + 2, number + 1)):
            told = remaining(each)
            assert told["X-Gateway-Budget-Remaining"] == f"{budget / 100:.2f}"
            assert told["x-ratelimit-remaining-images"] == str(images)
