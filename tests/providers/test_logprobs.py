"""What each word might have been instead is left out of what is kept of an answer, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.providers.logprobs import WithoutLogprobs
from tests.providers.test_elide import CUTS, ODD_TEXT, cut

NAMES = st.sampled_from(["logprobs", "top_logprobs", "no_logprobs", 'logprobs"', "text", ""])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | ODD_TEXT | NAMES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | ODD_TEXT, inner, max_size=5),
    max_leaves=30,
).map(lambda value: {"": value})


def lean(value: Any) -> Any:
    """What the document should be afterwards."""
    if isinstance(value, list):
        kept = list(map(lean, value))
        named = False  # a word in front of a list is taken for its name, also with numbers and nulls in between
        for at, item in enumerate(value):
            if named and isinstance(item, list):
                kept[at] = []
            if isinstance(item, str | list | dict):
                named = item in ("logprobs", "top_logprobs")
        return kept
    if isinstance(value, dict):
        return {
            name: [] if name in ("logprobs", "top_logprobs") and isinstance(inner, list) else lean(inner)
            for name, inner in value.items()
        }
    return value


@given(document=DOCUMENTS, cuts=CUTS, indent=st.sampled_from([None, 1]))
def test_any_document_cut_anywhere(document: Any, cuts: list[int], indent: int | None) -> None:
    """The copy parses to the original with these lists emptied, written in one line or in many."""
    keeper = WithoutLogprobs()
    written = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    assert json.loads(b"".join(keeper.feed(piece) for piece in cut(written, cuts))) == lean(document)


@given(documents=st.lists(DOCUMENTS, max_size=4), cuts=CUTS)
@example(documents=[{"": ["logprobs", None, [None]]}], cuts=[])
def test_events_cut_anywhere(documents: list[Any], cuts: list[int]) -> None:
    """A list that is never closed on one line does no harm to the next."""
    lines = [f"data: {json.dumps(document)}" for document in documents]
    text = "\n".join(line for data in lines for line in ('data: {"logprobs": [{"a": "', data, ""))
    keeper = WithoutLogprobs(lines=True)
    copy = b"".join(keeper.feed(piece) for piece in cut((text + "\n").encode(), cuts))
    kept = [line.removeprefix(b"data: ") for line in copy.split(b"\n") if line.startswith(b"data: ")]
    assert [json.loads(line) for line in kept[1::2]] == [lean(document) for document in documents]
