"""JSON that goes to the store."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.budget import Budget, Candidate, Counted, Line, Pressure, Quota, Scope, View, Window
from gateway.domain.route import Views
from gateway.domain.settlement import CostSource, Settlement, Usage
from gateway.ledger.wire import candidate_arg, line_args, settlement_args, to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_it_is_compact_and_says_what_it_was_given(value: object) -> None:
    """Every value is written as the standard library writes it without spaces: in ASCII, and read back the same."""
    text = to_json(value)

    assert text == json.dumps(value, separators=(",", ":"))
    assert text.isascii()
    assert json.loads(text) == value


@pytest.mark.parametrize("value", [math.nan, [1, {"a": math.inf}], -math.inf])
def test_what_json_does_not_have_is_refused(value: object) -> None:
    """NaN and infinity raise ValueError, again and again, and what follows is written as ever."""
    for _ in range(2):
        with pytest.raises(ValueError, match="Out of range"):
            to_json(value)
    with pytest.raises(TypeError):
        to_json({"a": object()})

    assert to_json({"a": [1, "b"]}) == '{"a":[1,"b"]}'


def test_a_candidate_is_written_as_its_parts_are() -> None:
    """Each line as `line_args` has it, amounts and limits of each rule its own, though the rest of a line is kept."""
    for limit in (5, 7, -1, 2**60):
        scope = Scope(project='a "quoted" näme')
        rules: list[Budget | Quota] = [
            Budget(scope, Window.DAY, limit, View.INTERNAL),
            Quota(scope, Counted.IMAGES, limit, 60),
            Quota(scope, Counted.CONCURRENT, limit),
        ]
        for taken in (0, 3, 2**52):
            facts: dict[str, object] = {"route": "r", "worst": {"official": "1", "route": "2", "internal": "3"}}
            lines = tuple(Line(rule, taken) for rule in rules)
            told = [["1", "2", "3"], to_json(facts), [line_args(rule, taken) for rule in rules]]
            assert json.loads(candidate_arg(Candidate("r", lines, facts))) == told
            within = Candidate("r", lines, facts, Pressure(8_000, None))
            assert json.loads(candidate_arg(within)) == [*told, ["8000", ""]]


@pytest.mark.parametrize("taken", [-1, 2**52 + 1, 1.0, True])
def test_an_amount_that_is_none_is_refused(taken: int) -> None:
    """ValueError for what the scripts could read otherwise."""
    lines = (Line(Quota(Scope(), Counted.IMAGES, 5, 60), taken),)
    with pytest.raises(ValueError, match="whole number"):
        candidate_arg(Candidate("r", lines))


@given(
    st.dictionaries(st.text(), st.none() | st.booleans() | st.text() | st.integers()),
    st.none() | st.builds(Usage, *[st.integers(0, 2**60)] * 6),
)
def test_a_settlement_tells_its_outcome_as_json(facts: dict[str, object], usage: Usage | None) -> None:
    """The facts, and the tokens by their names where they are known, as the standard library writes them."""
    outcome: dict[str, object] = {"facts": facts}
    if usage is not None:
        outcome["usage"] = asdict(usage)
    told = Settlement("r", 1, Views(1, 1001, 2000), CostSource.USAGE, 3, usage, facts)
    assert settlement_args(told) == ("1,usage,3,1,1001,2000,1,2,2", json.dumps(outcome, separators=(",", ":")))
