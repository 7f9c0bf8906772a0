"""Masked JSON of log lines against the plain way to write it."""

from __future__ import annotations

import json
from enum import IntEnum, StrEnum

from hypothesis import given
from hypothesis import strategies as st

from gateway.observe.masked_json import MaskedJson
from gateway.observe.redact import Redactor

SECRET, OTHER = "a-secret-of-policy", "sk-proj-abcdEFGH1234"


class _Word(StrEnum):
    ROUTE = "route"


class _Count(IntEnum):
    TWO = 2


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([SECRET, OTHER, f"é\x7f\ud800 {SECRET}", "A" * 300, "y" * 9_000, _Word.ROUTE, _Count.TWO])
)
FIELDS = st.dictionaries(
    st.text(), st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)
)


@given(FIELDS)
def test_fields_are_what_plain_json_of_the_masked_values_is(fields: dict[object, object]) -> None:
    """Whatever the values are, members say what the encoder says of the redacted values, and own words are left out."""
    redactor = Redactor([SECRET])
    members = MaskedJson(redactor).members(fields, {"ts", ""})
    plain = {name: redactor.value(value) for name, value in fields.items() if name not in {"ts", ""}}

    assert "{" + ",".join(members) + "}" == json.dumps(plain, separators=(",", ":"))
    assert SECRET not in "".join(members)


def test_a_secret_learnt_later_is_masked_in_words_that_were_written_before() -> None:
    """What a new policy's secrets are is gone from lines at once."""
    redactor = Redactor()
    written = MaskedJson(redactor)
    assert written.members({"said": SECRET}, ()) == [f'"said":"{SECRET}"']

    redactor.learn([SECRET])

    assert written.members({"said": SECRET}, ()) == ['"said":"***"']
    assert written.text(SECRET) == '"***"'
