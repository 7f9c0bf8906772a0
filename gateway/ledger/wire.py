"""What goes to the scripts and what comes back: rules as lines, replies as records. Amounts travel as strings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]  # typeshed leaves it out
from operator import attrgetter
from typing import Any

from gateway.domain.about import About
from gateway.domain.budget import (
    Budget,
    Candidate,
    Counted,
    Denied,
    Held,
    Line,
    Obstacle,
    Pressure,
    Quota,
    View,
)
from gateway.domain.idempotency import Binding
from gateway.domain.money import MAX_MICRO, NANO_PER_MICRO
from gateway.domain.route import Views
from gateway.domain.settlement import Posting, Settlement, Usage

# `json.dumps` makes this anew for each value; see `iterencode` in https://github.com/python/cpython/blob/3.11/Lib/json/encoder.py
_pieces = c_make_encoder(None, json.JSONEncoder().default, encode_basestring_ascii, None, ":", ",", False, False, False)
_TOKEN_KINDS = tuple(item.name for item in fields(Usage))
_tokens = attrgetter(*_TOKEN_KINDS)
_USAGE = ',"usage":{' + ",".join(f'"{kind}":%d' for kind in _TOKEN_KINDS) + "}"
_COST = "%d,%d,%d,%d,%d,%d"
REMEMBERED = 4096
"""Rules of which it is kept how their lines are written."""
_around: dict[tuple[str, int], tuple[str, str]] = {}  # by meter, which has all else that a line says, and limit
ALL_OF_IT = 10_000
"""Basis points of a budget."""


@dataclass(frozen=True, slots=True)
class Balance:
    """Where a rule stands: micro-USD or counts; `reset` is seconds until its window turns or room returns, 0 if never.

    For a rolling quota `used` is what the window counted and `held` is 0; for requests in flight it is the reverse.
    """

    used: int
    held: int
    reset: float


def to_json(value: object) -> str:
    """Compact JSON; ValueError for NaN and infinity, which JSON does not have."""
    return "".join(_pieces(value, 0))


def about_json(about: Mapping[str, object]) -> str:
    """What a record says of its request as JSON; kept with it where it is the same for many."""
    if not isinstance(about, About):
        return to_json(dict(about))
    if about.written is None:
        about.written = to_json(about)
    return about.written


def amount(number: int, what: str) -> str:
    """A whole number of 0 to 2^52 as the scripts take it; ValueError for anything else."""
    if type(number) is not int or not 0 <= number <= MAX_MICRO:
        raise ValueError(f"{what} must be a whole number of 0 to 2^52, not {number!r}")
    return str(number)


def amounts(numbers: Sequence[int], what: str) -> list[str]:
    """Whole numbers of 0 to 2^52 as the scripts take them; ValueError for anything else."""
    check_amounts(numbers, what)
    return [*map(str, numbers)]


def check_amounts(numbers: Sequence[int], what: str) -> None:
    """Raise ValueError for what is no whole number of 0 to 2^52."""
    for number in numbers:
        if type(number) is not int or not 0 <= number <= MAX_MICRO:
            amount(number, what)  # which raises


def line_args(rule: Budget | Quota, taken: int) -> list[str]:
    """A line as the scripts read it: kind, meter, amount, limit, window or seconds, view."""
    limit = str(min(rule.limit, MAX_MICRO)) if rule.limit > 0 else "0"
    if isinstance(rule, Budget):
        return ["usd", rule.meter, amount(taken, rule.meter), limit, str(rule.window), str(rule.view)]
    if rule.counted is Counted.CONCURRENT:
        return ["live", rule.meter, amount(taken, rule.meter), limit]
    return ["rolling", rule.meter, amount(taken, rule.meter), limit, str(rule.seconds)]


def candidate_arg(candidate: Candidate) -> str:
    """A candidate as records have it, JSON: worst case by view, facts, lines, its pressure if any; kept with it."""
    if candidate.written is not None:
        return candidate.written
    lines = []
    for line in candidate.lines:
        rule, taken = line.rule, line.amount
        if type(taken) is not int or not 0 <= taken <= MAX_MICRO:
            amount(taken, rule.meter)  # which raises
        before, after = _around.get((rule.meter, rule.limit)) or _written_around(rule)
        lines.append(f"{before}{taken}{after}")
    pressure = candidate.pressure
    always = pressure.at_least == 0 and pressure.below is None
    span = "" if always else f",{to_json(_range(pressure))}"
    facts = encode_basestring_ascii(to_json(candidate.facts))
    official, route, internal = worst(candidate)
    written = f'[["{official}","{route}","{internal}"],{facts},[{",".join(lines)}]{span}]'
    object.__setattr__(candidate, "written", written)
    return written


def _written_around(rule: Budget | Quota) -> tuple[str, str]:
    """Return a line of the rule as JSON, before and after the amount; it is kept, since it is the same each time."""
    kind, meter, _, *rest = line_args(rule, 0)
    if len(_around) >= REMEMBERED:
        _around.clear()
    made = _around[rule.meter, rule.limit] = f'["{kind}",{to_json(meter)},"', f'",{to_json(rest)[1:]}'
    return made


def hold_terms(state: str, lease: str, newest: int, release: int | None, binding: Binding | None) -> str:
    """The terms of a hold, which `hold_terms.lua` tells, but for the last two, which differ each time it is asked."""
    tied = "," if binding is None else f"{'1' if binding.claim else ''},{binding.fingerprint}"
    return f"{state},{lease},{newest},{'' if release is None else release},{tied}"


def _range(pressure: Pressure) -> list[str]:
    """From and to where a candidate is in range, in basis points; ValueError beyond 100 %."""
    ends = (pressure.at_least, pressure.below)
    if any(end is not None and not 0 <= end <= ALL_OF_IT for end in ends):
        raise ValueError(f"pressure must be within 0 to {ALL_OF_IT} basis points, not {pressure}")
    return ["" if end is None else str(end) for end in ends]


def worst(candidate: Candidate) -> list[str]:
    """Nano-USD by view, from the candidate's facts; where they don't say, what its budgets hold."""
    said = candidate.facts.get("worst")
    if isinstance(said, Mapping):
        return amounts((int(said["official"]), int(said["route"]), int(said["internal"])), "worst case")
    held = dict.fromkeys(View, 0)
    for line in candidate.lines:
        if isinstance(line.rule, Budget):
            held[line.rule.view] = max(held[line.rule.view], line.amount * NANO_PER_MICRO)
    return [str(min(held[view], MAX_MICRO)) for view in View]


def cost_args(cost: Views) -> str:
    """Nano-USD by view, then micro-USD by view, with commas; ValueError for no whole number of 0 to 2^52."""
    nano = official, route, internal = cost.official, cost.route, cost.internal
    check_amounts(nano, "cost")
    micro = -(-official // NANO_PER_MICRO), -(-route // NANO_PER_MICRO), -(-internal // NANO_PER_MICRO)  # rounded up
    return _COST % (nano + micro)


def settlement_args(settlement: Settlement) -> tuple[str, str]:
    """The terms of a settlement, which `settle_terms.lua` tells, and its outcome for the entry stream."""
    usage = "" if settlement.usage is None else _USAGE % _tokens(settlement.usage)
    images, cost = amount(settlement.images, "images"), cost_args(settlement.cost)
    terms = f"{settlement.attempt},{settlement.source},{images},{cost}"
    return terms, f'{{"facts":{to_json(settlement.facts)}{usage}}}'


def posting_args(posting: Posting) -> list[str]:
    """A posting as its script reads it; ValueError for amounts beyond 2^52 either way."""
    cost = posting.cost
    lines = [[cell, _signed(micro, cell)] for cell, micro in posting.lines.items()]
    return [
        posting.id,
        *(_signed(view, "cost") for view in (cost.official, cost.route, cost.internal)),
        to_json(lines),
        to_json(posting.about),
        posting.reason,
    ]


def _signed(number: int, what: str) -> str:
    amount(abs(number), what)
    return str(number)


def hold_reply(reply: Sequence[str], candidates: Sequence[Candidate]) -> Held | Denied:
    """The hold script's answer, HELD or DENIED."""
    if reply[0] == "HELD":
        index = int(reply[1])
        return Held(index, int(reply[2]), candidates[index].lines, [*map(int, reply[5:])])
    obstacles: list[list[Obstacle]] = [[] for _ in candidates]
    for at in range(1, len(reply), 5):
        which, number, used, held, wait = (int(figure) for figure in reply[at : at + 5])
        line: Line = candidates[which].lines[number]
        obstacles[which].append(Obstacle(line, used, held, _seconds(wait)))
    return Denied(tuple(map(tuple, obstacles)))


def balances_reply(reply: Sequence[Any]) -> list[Balance]:
    """The balances script's answer."""
    triples = zip(reply[0::3], reply[1::3], reply[2::3], strict=True)
    return [Balance(int(used), int(held), _seconds(reset)) for used, held, reset in triples]


def _seconds(milliseconds: Any) -> float:
    """Seconds; 0 where time alone will not help."""
    return max(int(milliseconds), 0) / 1000


def views(nano: Sequence[str]) -> Views:
    """Three decimal strings, in the order official, route, internal."""
    official, route, internal = (int(view) for view in nano)
    return Views(official=official, route=route, internal=internal)


def request_record(request_id: str, kept: Mapping[str, str]) -> dict[str, Any] | None:
    """A request's hash as a record: id, created (Unix seconds), about, attempts; None if nothing was ever held."""
    if "attempts" not in kept:
        return None
    return {
        "id": request_id,
        "created": int(kept["created"]) / 1000,
        "about": json.loads(kept["about"]),
        "attempts": [_attempt(number, kept) for number in range(1, int(kept["attempts"]) + 1) if f"a{number}" in kept],
    }


def only_voids(kept: Mapping[str, str]) -> bool:
    """Tell whether every attempt of a request came to nothing, from its hash."""
    states = [kept.get(f"s{number}") for number in range(1, int(kept.get("attempts", "0")) + 1)]
    known = [state for state in states if state is not None]
    return bool(known) and all(state == "void" for state in known)


def _attempt(number: int, kept: Mapping[str, str]) -> dict[str, object]:
    fixed = json.loads(kept[f"a{number}"])
    attempt: dict[str, object] = {
        "attempt": number,
        "state": kept[f"s{number}"],
        "facts": json.loads(kept[f"f{number}"]),
        "held_at": int(fixed["at"]) / 1000,
        "lines": [{"meter": line[1], "amount": int(line[2])} for line in fixed["lines"]],
    }
    if f"e{number}" not in kept:
        return attempt
    ended, outcome = json.loads(kept[f"e{number}"]), json.loads(kept[f"o{number}"])
    answer = outcome.get("facts", {})
    return attempt | {
        "ended_at": int(ended["at"]) / 1000,
        "cost": views(ended["cost"]),
        "source": ended["source"] or None,
        "images": int(ended["images"]),
        "reason": ended.get("reason") or answer.get("reason"),
        "usage": outcome.get("usage"),
        "answer": answer,
    }
