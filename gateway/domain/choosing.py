"""Choosing: what the ledger's hold does in one step, on figures at hand; for decisions that hold nothing.

The first candidate is taken whose range of budget use holds and whose every line has room.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from gateway.domain.budget import Budget, Candidate, Denied, Line, Obstacle, Quota

WHOLE = 10_000
"""Basis points of a limit that is used up."""


class Standing(Protocol):
    """Where a rule stands: micro-USD or counts; `reset` is seconds until its window turns or room returns, 0 if never.

    Of a rolling quota `used` is what the window counted, of requests in flight `held` is their number.
    """

    @property
    def used(self) -> int:
        """What is spent, or was counted."""

    @property
    def held(self) -> int:
        """What is held, or in flight."""

    @property
    def reset(self) -> float:
        """Seconds."""


@dataclass(frozen=True, slots=True)
class Stands:
    """A standing that was made up or worked out."""

    used: int = 0
    held: int = 0
    reset: float = 0.0


State = Callable[[Budget | Quota], Standing]
"""Tells where a rule stands."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which candidate would be held on (None: none), and what stood in the way of each one up to it, in order.

    A candidate without obstacles that was not chosen is one whose range the use of budgets has not reached.
    """

    index: int | None
    obstacles: tuple[tuple[Obstacle, ...], ...]

    @property
    def denied(self) -> Denied:
        """The denial, as a ledger that holds nothing answers it."""
        return Denied(self.obstacles)


def choose(candidates: Sequence[Candidate], state: State) -> Choice:
    """Return what a hold on these candidates would come to where every rule stands as `state` says."""
    passed: list[tuple[Obstacle, ...]] = []
    opened = 0  # basis points up to which ranges count as reached
    for index, candidate in enumerate(candidates):
        pressure = candidate.pressure
        if pressure.at_least > max(opened, use_of(candidate, state)):
            passed.append(())
            continue
        pressed = _pressed(candidate, state)
        if pressed is not None:
            opened = max(opened, pressure.below or 0)
        full = [_is_full(line, state) for line in candidate.lines]
        if pressed is None and not any(full):
            return Choice(index, tuple(passed))
        if any(isinstance(line.rule, Budget) for line, is_full in zip(candidate.lines, full, strict=True) if is_full):
            opened = WHOLE
        passed.append(
            tuple(
                _obstacle(line, state)
                for line, is_full in zip(candidate.lines, full, strict=True)
                if is_full or line is pressed
            )
        )
    return Choice(None, tuple(passed))


def use_of(candidate: Candidate, state: State) -> int:
    """Return the largest share of any of its budgets that is spent or held, in basis points, rounded down."""
    budgets = (line.rule for line in candidate.lines if isinstance(line.rule, Budget))
    return max((share(rule, state(rule)) for rule in budgets), default=0)


def share(rule: Budget | Quota, stands: Standing) -> int:
    """Return how much of a rule's limit is used and held, in basis points, rounded down; a limit of 0 is used up."""
    return WHOLE * (stands.used + stands.held) // rule.limit if rule.limit > 0 else WHOLE


def _pressed(candidate: Candidate, state: State) -> Line | None:
    """The budget that is used most, if use has left the candidate's range."""
    below = candidate.pressure.below
    budgets = [line for line in candidate.lines if isinstance(line.rule, Budget)]
    if below is None or not budgets:
        return None

    def exact(line: Line) -> Fraction:
        stands = state(line.rule)
        return Fraction(stands.used + stands.held, max(line.rule.limit, 1))

    reached = [line for line in budgets if share(line.rule, state(line.rule)) >= below]
    return max(reached, key=exact, default=None)


def _is_full(line: Line, state: State) -> bool:
    stands = state(line.rule)
    return stands.used + stands.held + line.amount > line.rule.limit


def _obstacle(line: Line, state: State) -> Obstacle:
    stands = state(line.rule)
    return Obstacle(line, stands.used, stands.held, stands.reset)
