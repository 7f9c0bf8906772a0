"""Where a request goes next: every rule on a clock that stands still, without a call."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from gateway.domain.budget import Pressure
from gateway.domain.policy import OnUnknown, Retry
from gateway.domain.retry import RetryBudget, RetryBudgets
from gateway.domain.route import ProviderConfig, Quote, Views
from gateway.domain.settlement import Outcome
from gateway.ports.provider import UpstreamFailure
from gateway.request.retrying import LONGEST_WAIT, RetryPlan, Step
from tests.builders import GPT_IMAGE_2, job, route


def on(provider: str) -> Quote:
    """A quote on a provider's only route, which has the provider's name."""
    account = ProviderConfig(provider, "openai", "http://127.0.0.1:1/v1", None)
    price = GPT_IMAGE_2.prices[0]
    return Quote(route(provider, provider=account), job(), {}, Views(1, 1, 1), price, price)


A, B, C = on("a"), on("b"), on("c")


def failure(reason: str, outcome: Outcome = Outcome.REJECTED, *, retry_after: float | None = None) -> UpstreamFailure:
    """A failed call."""
    return UpstreamFailure(outcome, reason, reason, retry_after=retry_after)


BUSY, LIMITED, ACCOUNT = failure("status_5xx"), failure("status_429"), failure("account")
UNREACHED = failure("connect", Outcome.NOT_SENT)
LOST = failure("timeout", Outcome.UNKNOWN)
UNABLE = failure("unsupported", Outcome.NOT_SENT)


@dataclass
class Trip:
    """A course on a clock of its own; `drawn` stands for chance."""

    quotes: tuple[Quote, ...] = (A, B)
    retry: Retry = field(default_factory=lambda: Retry(attempts=10))
    client_repeats: bool = False
    drawn: float = 1.0
    now: float = 100.0

    def __post_init__(self) -> None:
        self.budgets = RetryBudgets(lambda: self.now)
        self.plan = RetryPlan(
            self.quotes,
            self.retry,
            self.budgets,
            client_repeats=self.client_repeats,
            clock=lambda: self.now,
            draw=lambda: self.drawn,
        )

    def fail(self, quote: Quote, what: UpstreamFailure) -> Step | None:
        """Call this route, which must be on offer, and fail; then say what comes next. The clock goes with a pause."""
        step = self.plan.next()
        assert step is not None
        assert quote in step.quotes
        self.now += step.pause
        self.plan.chosen(quote)
        self.plan.failed(quote, what)
        self.plan.end_step()
        return self.peek()

    def peek(self) -> Step | None:
        """What comes next, were it asked for now."""
        step = self.plan.next()
        self.plan.end_step()
        return step


def test_the_first_step_offers_every_route_at_once() -> None:
    """The ledger chooses among all of them, and nothing is waited for."""
    assert Trip().peek() == Step((A, B))


@pytest.mark.parametrize("what", [BUSY, LIMITED, UNREACHED, ACCOUNT, failure("account_quota"), failure("redirect")])
def test_routes_not_tried_come_next_and_at_once(what: UpstreamFailure) -> None:
    """Whatever surely was not billed goes to another route without a pause, even where a wait was asked for."""
    assert Trip().fail(A, what) == Step([B])
    assert Trip().fail(A, failure("status_429", retry_after=60)) == Step([B])


@pytest.mark.parametrize("what", [BUSY, LIMITED, UNREACHED])
def test_what_passes_by_itself_is_tried_again_after_a_pause(what: UpstreamFailure) -> None:
    """When no route is left, all of them are on offer again; the longest pause doubles each time."""
    trip = Trip()
    trip.fail(A, what)
    assert trip.fail(B, what) == Step([A, B], 0.5)
    assert [step.pause for _ in range(5) if (step := trip.fail(A, what))] == [1, 2, 4, 8, 8]


@pytest.mark.parametrize("what", [ACCOUNT, failure("account_quota"), failure("redirect"), failure("unconfigured")])
def test_what_does_not_pass_is_not_tried_again(what: UpstreamFailure) -> None:
    """A refused account is as refused a second later; the other route is still tried again."""
    assert Trip((A,)).fail(A, what) is None
    trip = Trip()
    trip.fail(A, what)
    assert trip.fail(B, BUSY) == Step([B], 0.5)


@pytest.mark.parametrize("what", [BUSY, LIMITED, UNREACHED])
def test_a_client_that_repeats_by_itself_is_not_helped_twice(what: UpstreamFailure) -> None:
    """Other routes are tried for it, no route twice."""
    trip = Trip(client_repeats=True)
    assert trip.fail(A, what) == Step([B])
    assert trip.fail(B, what) is None


def test_what_was_charged_is_repeated_here_for_every_client() -> None:
    """The client is told not to repeat it, so nobody else would."""
    empty = failure("no_image")
    empty.charged = True
    trip = Trip(quotes=(A,), client_repeats=True)
    step = trip.fail(A, empty)
    assert step is not None
    assert step.quotes == [A]
    assert Trip(quotes=(A,), client_repeats=True).fail(A, failure("no_image")) is None


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_policy_bounds_all_calls_together(attempts: int) -> None:
    """Fallbacks and repeats count alike."""
    trip, calls = Trip(retry=Retry(attempts=attempts)), 0
    while step := trip.peek():
        calls += 1
        trip.fail(step.quotes[0], BUSY)
    assert calls == attempts


def test_a_longer_wait_that_the_provider_asks_for_is_kept() -> None:
    """The pause is never shorter than it, and by a tenth longer at most; a shorter one changes nothing."""
    for drawn, pause in ((0.0, 3.0), (1.0, 3.3)):
        step = Trip((A,), drawn=drawn).fail(A, failure("status_429", retry_after=3))
        assert step is not None
        assert step.pause == pytest.approx(pause)
    assert Trip((A,)).fail(A, failure("status_429", retry_after=0.1)) == Step([A], 0.5)


def test_a_wait_counts_from_when_it_was_asked_for() -> None:
    """What was spent on another route meanwhile is part of it."""
    trip = Trip(drawn=0.0)
    trip.fail(A, failure("status_429", retry_after=5))
    trip.now += 4
    step = trip.fail(B, ACCOUNT)
    assert step is not None
    assert step.quotes == [A]
    assert step.pause == pytest.approx(1)


def test_only_the_routes_that_are_ready_by_then_are_offered() -> None:
    """One that asked for a longer wait is left out, however good its place in the order."""
    trip = Trip(drawn=0.0)
    trip.fail(A, failure("status_429", retry_after=8))
    assert trip.fail(B, failure("status_5xx", retry_after=1)) == Step([B], 1)


def test_a_wait_that_is_too_long_is_left_to_the_client() -> None:
    """It is told when the first provider is ready, with a tenth more by chance."""
    trip = Trip()
    trip.fail(A, failure("status_429", retry_after=LONGEST_WAIT * 3))
    assert trip.fail(B, failure("status_429", retry_after=LONGEST_WAIT * 2)) is None
    assert trip.plan.retry_after(trip.plan.failures) == pytest.approx(LONGEST_WAIT * 2.2)


def test_what_a_route_said_before_is_over() -> None:
    """The client is told to wait as long as each route said last, not as it had said when it was asked before."""
    trip = Trip((A,), retry=Retry(attempts=2), drawn=0.0)
    assert trip.fail(A, failure("status_429", retry_after=1)) is not None
    trip.now += 1
    assert trip.fail(A, failure("status_429", retry_after=30)) is None
    assert trip.plan.retry_after(trip.plan.failures) == pytest.approx(30)


@pytest.mark.parametrize("policy", [OnUnknown.HOLD, OnUnknown.FAIL])
def test_what_may_have_been_billed_ends_it(policy: OnUnknown) -> None:
    """Unless policy says otherwise nothing is tried after it, though a route and calls are left."""
    trip = Trip(retry=Retry(attempts=10, on_unknown=policy))
    assert trip.fail(A, LOST) is None
    assert trip.plan.presumed


def test_where_policy_goes_on_only_untried_routes_are_left() -> None:
    """None is called twice any more, neither that which may have billed nor one that surely did not."""
    trip = Trip((A, B, C), Retry(attempts=10, on_unknown=OnUnknown.NEXT_ROUTE))
    trip.fail(A, BUSY)
    assert trip.fail(B, LOST) == Step([C])
    assert trip.fail(C, BUSY) is None
    assert trip.plan.presumed


def test_routes_without_room_are_out() -> None:
    """What no hold could be taken on is neither tried later in this request nor offered again."""
    trip = Trip()
    step = trip.fail(A, BUSY)
    assert step is not None
    trip.plan.denied(step)
    again = trip.peek()
    assert again == Step([A], 0.5)
    trip.plan.denied(again)
    assert trip.peek() is None


def rungs(quote: Quote) -> tuple[Quote, Quote]:
    """The same route twice: for a budget that is hardly used, and for one that is."""
    low, high = Pressure(0, 8_000), Pressure(8_000)
    return replace(quote, pressure=low), replace(quote, pressure=high, job=replace(quote.job, quality="low"))


def test_a_route_that_was_tried_is_tried_on_every_rung() -> None:
    """What failed for the good picture is not asked for a cheaper one, and all rungs of the next route are offered."""
    (a, cheap_a), (b, cheap_b) = rungs(A), rungs(B)
    for chosen in (a, cheap_a):
        assert Trip((a, b, cheap_a, cheap_b)).fail(chosen, BUSY) == Step([b, cheap_b])


def test_a_route_that_is_tried_again_is_offered_on_every_rung() -> None:
    """Which one it is depends on what budgets have left by then, not on what was held before."""
    (a, cheap_a), (b, cheap_b) = rungs(A), rungs(B)
    trip = Trip((a, b, cheap_a, cheap_b))
    trip.fail(cheap_a, BUSY)
    assert trip.fail(b, BUSY) == Step([a, b, cheap_a, cheap_b], 0.5)


def test_a_route_without_room_is_out_on_every_rung() -> None:
    """A denial is one of all that were offered."""
    (a, cheap_a), (b, cheap_b) = rungs(A), rungs(B)
    trip = Trip((a, b, cheap_a, cheap_b))
    step = trip.fail(a, BUSY)
    assert step == Step([b, cheap_b])
    trip.plan.denied(step)
    assert trip.peek() == Step([a, cheap_a], 0.5)


def test_what_is_not_paid_for_is_left_out_and_its_range_goes_to_the_next_rung() -> None:
    """A lower rung serves where a better one does not fit any more; each way to do it keeps its own ranges."""
    (a, cheap_a), (b, cheap_b) = rungs(A), rungs(B)
    batch_a, batch_b = (replace(each, pressure=Pressure(8_000), expected=1) for each in (a, b))
    dear = {id(b), id(batch_b)}
    trip = Trip((batch_a, batch_b, a, b, cheap_a, cheap_b))
    trip.plan = RetryPlan(trip.quotes, trip.retry, trip.budgets, pays_for=lambda quote: id(quote) not in dear)

    assert trip.fail(a, ACCOUNT) == Step([replace(cheap_b, pressure=Pressure(0))])
    assert not trip.plan.too_dear
    dear.add(id(cheap_b))
    assert (trip.peek(), trip.plan.too_dear) == (None, True)


def test_a_provider_without_budget_is_as_if_it_were_not_there() -> None:
    """Another's first call is free all the same, and the next provider pays from a budget of its own."""
    trip = Trip()
    for name in ("a", "b"):
        for _ in range(int(RetryBudget.CAP)):
            trip.budgets.of(name).failed()
    assert trip.peek() == Step((A, B))
    assert trip.fail(A, BUSY) is None
    assert Trip((A, B, C)).fail(A, BUSY) == Step([B, C])
    healthy = Trip((A, B, C))
    for _ in range(int(RetryBudget.CAP)):
        healthy.budgets.of("b").failed()
    assert healthy.fail(A, BUSY) == Step([C])


def test_routes_of_one_provider_share_its_budget() -> None:
    """Going on to another route of the provider that has just failed counts as a repeat there."""
    other = replace(A, route=replace(A.route, name="a/other"))
    trip = Trip((A, other))
    assert trip.fail(A, BUSY) == Step([other])
    for _ in range(int(RetryBudget.CAP)):
        trip.budgets.of("a").failed()
    assert trip.peek() is None


def test_no_reservation_outlives_its_step() -> None:
    """However many requests come and go, a budget whose calls all succeed stays whole."""
    budgets = RetryBudgets(lambda: 0.0)
    for _ in range(200):
        plan = RetryPlan((A, B, C), Retry(), budgets, clock=lambda: 0.0)
        assert plan.next() == Step((A, B, C))
        plan.chosen(A)
        plan.failed(A, BUSY)
        plan.end_step()
        assert plan.next() == Step([B, C])
        plan.chosen(C)
        plan.succeeded(C)
        plan.end_step()
    for name in "abc":
        assert sum(budgets.of(name).reserve(repeat=True) for _ in range(50)) == RetryBudget.CAP


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("what", [UNABLE, failure("unconfigured", Outcome.NOT_SENT)], ids=str)
def test_what_was_never_sent_is_no_call(attempts: int, what: UpstreamFailure) -> None:
    """As many calls are left as before, on the routes not tried yet; the others are not asked again."""
    trip = Trip((A, B, C), Retry(attempts=attempts))
    trip.fail(A, what)
    assert trip.fail(B, what) == Step([C])
    assert trip.fail(C, BUSY) == (Step([C], 0.5) if attempts > 1 else None)


@pytest.mark.parametrize("attempts", [0, 1, 10])
def test_routes_that_cannot_come_to_an_end(attempts: int) -> None:
    """Each is offered once, whatever number of calls policy allows; no other call follows one that was under way."""
    trip, offered = Trip((A, B, C), Retry(attempts=attempts)), 0
    while step := trip.peek():
        offered += 1
        trip.fail(step.quotes[0], UNABLE)
    assert offered == (3 if attempts else 1)


def test_a_route_that_cannot_after_all_is_not_called_again() -> None:
    """What it said last counts: an input image may be gone by the time of a repeat."""
    trip = Trip((A,))
    assert trip.fail(A, BUSY) == Step([A], 0.5)
    assert trip.fail(A, UNABLE) is None


def test_several_calls_of_which_one_was_sent_are_a_call() -> None:
    """Of a job in parts one may reach nobody, whose host the client has waited for, while another was never sent."""
    both = failure("unsupported", Outcome.NOT_SENT)
    both.others = [UNREACHED]
    trip = Trip((A, B), Retry(attempts=1))
    assert trip.fail(A, both) is None


def test_what_was_never_sent_costs_no_budget() -> None:
    """However many cannot be sent, the budgets stay whole, and the first call needs none of an empty one."""
    budgets = RetryBudgets(lambda: 0.0)
    for _ in range(200):
        plan = RetryPlan((A, B, C), Retry(), budgets, clock=lambda: 0.0)
        for quote, what in ((A, UNABLE), (B, BUSY), (C, UNABLE)):
            step = plan.next()
            assert step is not None
            assert quote in step.quotes
            plan.chosen(quote)
            plan.failed(quote, what)
            plan.end_step()
    for name in "abc":
        assert sum(budgets.of(name).reserve(repeat=True) for _ in range(50)) == RetryBudget.CAP
    trip = Trip((A, B))
    for _ in range(int(RetryBudget.CAP)):
        trip.budgets.of("b").failed()
    assert trip.fail(A, UNABLE) == Step([B])
    assert trip.fail(B, BUSY) is None


def test_a_provider_that_was_never_called_is_a_fallback_and_no_repeat() -> None:
    """Another of its routes needs no reservation while the provider is well: it has not failed this request."""
    other = replace(B, route=replace(B.route, name="b/other"))
    trip = Trip((A, B, other))
    budget, left = trip.budgets.of("b"), int(RetryBudget.CAP / 2) + 1
    for _ in range(int(RetryBudget.CAP) - left):
        budget.failed()
    assert sum(budget.reserve(repeat=True) for _ in range(50)) == left
    trip.fail(A, BUSY)
    assert trip.fail(B, UNABLE) == Step([other])
