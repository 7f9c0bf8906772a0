"""The elider returns the same JSON without its long strings, however the bytes are cut."""

from __future__ import annotations

import itertools
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.elide import ELIDED, LONGEST, Elider

SHORT = 12
ODD_TEXT = st.text(alphabet=st.sampled_from('ab"\\/\n\r\t{}[]:,é€😀\u2028 '), max_size=40)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(ODD_TEXT, inner, max_size=5),
    max_leaves=20,
)
CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut the data at these places; empty pieces included."""
    places = [0, *sorted(min(place, len(data)) for place in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


def blanked(value: Any, *, ascii_only: bool) -> Any:
    """What the document should be afterwards: strings longer than SHORT bytes, as written, are blanked."""
    if isinstance(value, str):
        written = json.dumps(value, ensure_ascii=ascii_only)[1:-1].encode()
        return ELIDED.decode() if len(written) > SHORT else value
    if isinstance(value, list):
        return [blanked(item, ascii_only=ascii_only) for item in value]
    if isinstance(value, dict):
        return {
            blanked(key, ascii_only=ascii_only): blanked(item, ascii_only=ascii_only) for key, item in value.items()
        }
    return value


@given(document=DOCUMENTS, cuts=CUTS, ascii_only=st.booleans())
def test_any_document_cut_anywhere(document: Any, cuts: list[int], ascii_only: bool) -> None:
    """The copy of any JSON, cut anywhere, parses to the original with its long strings blanked."""
    elider = Elider(longest=SHORT)
    copy = b"".join(elider.feed(piece) for piece in cut(json.dumps(document, ensure_ascii=ascii_only).encode(), cuts))
    assert json.loads(copy) == blanked(document, ascii_only=ascii_only)


@given(documents=st.lists(DOCUMENTS, max_size=4), cuts=CUTS, newline=st.sampled_from(["\n", "\r\n"]))
def test_any_event_lines_cut_anywhere(documents: list[Any], cuts: list[int], newline: str) -> None:
    """Lines of events keep their shape, and an unbalanced quote on one line does no harm to the next."""
    lines = [f"data: {json.dumps(document)}" for document in documents]
    text = newline.join(line for data in lines for line in (': a stray " quote', data, ""))
    elider = Elider(longest=SHORT, lines=True)
    copy = b"".join(elider.feed(piece) for piece in cut((text + newline).encode(), cuts))
    kept = [line.removeprefix(b"data: ") for line in copy.split(newline.encode()) if line.startswith(b"data: ")]
    assert [json.loads(line) for line in kept] == [blanked(document, ascii_only=True) for document in documents]


@given(garbage=st.binary(max_size=200), cuts=CUTS, lines=st.booleans())
def test_garbage_is_not_invented(garbage: bytes, cuts: list[int], lines: bool) -> None:
    """Any bytes are taken without an error, and how they are cut changes nothing."""
    whole, pieces = Elider(longest=SHORT, lines=lines), Elider(longest=SHORT, lines=lines)
    assert b"".join(pieces.feed(piece) for piece in cut(garbage, cuts)) == whole.feed(garbage)


def test_an_image_is_left_out() -> None:
    """Megabytes of base64 leave a copy of some bytes, while usage beside them is kept."""
    image = b"A" * 5_000_000
    answer = b'{"data":[{"b64_json":"' + image + b'"}],"usage":{"input_tokens":1}}'
    elider = Elider()
    copy = b"".join(elider.feed(answer[at : at + 65_536]) for at in range(0, len(answer), 65_536))
    assert json.loads(copy) == {"data": [{"b64_json": ELIDED.decode()}], "usage": {"input_tokens": 1}}


def test_the_longest_string_kept() -> None:
    """A string of exactly the limit is kept, one byte more is not."""
    kept, dropped = b'"' + b"x" * LONGEST + b'"', b'"' + b"x" * (LONGEST + 1) + b'"'
    assert Elider().feed(kept) == kept
    assert Elider().feed(dropped) == b'"' + ELIDED + b'"'
