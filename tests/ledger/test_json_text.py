"""JSON that goes to the store."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger.wire import to_json

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
