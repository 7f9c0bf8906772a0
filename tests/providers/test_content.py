"""Images of a JSON answer are found where they lie, however the bytes are cut."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.content import Content, Finder
from gateway.providers.elide import LONGEST
from gateway.providers.reading import MOST_KEPT, is_image
from tests.providers.test_elide import CUTS, DOCUMENTS, ODD_TEXT, cut

IMAGES = st.dictionaries(st.sampled_from(["b64_json", "url", "revised_prompt"]), ODD_TEXT | DOCUMENTS, max_size=3)
ANSWERS = st.dictionaries(ODD_TEXT | st.just("date"), DOCUMENTS, max_size=4)
INDENTS = st.sampled_from([None, 2])


def read(data: bytes, cuts: list[int]) -> Content:
    """Let the bytes go by."""
    content = Content()
    for piece in cut(data, cuts):
        content.feed(piece)
    return content


@given(
    before=ANSWERS,
    data=st.lists(IMAGES | DOCUMENTS, max_size=5),
    after=ANSWERS,
    cuts=CUTS,
    indent=INDENTS,
    escaped=st.booleans(),
)
def test_any_answer_cut_anywhere(
    *,
    before: dict[str, Any],
    data: list[Any],
    after: dict[str, Any],
    cuts: list[int],
    indent: int | None,
    escaped: bool,
) -> None:
    """The ranges cut out exactly the elements that are images, whatever stands around them, in their order."""
    whole = {**before, "data": data, **{name: value for name, value in after.items() if name not in before}}
    text = json.dumps(whole, indent=indent)
    if escaped:
        text = text.replace('"data":', '"d\\u0061ta":', 1)
    content = read(text.encode(), cuts)
    images = [item for item in data if is_image(item)]
    assert [json.loads(text.encode()[start:end]) for start, end, *_ in content.images()] == images
    for (first, last, inline, link, own), item in zip(content.images(), images, strict=True):
        assert (inline is not None) == isinstance(item.get("b64_json"), str)
        if inline is not None:
            member, start, end = inline
            assert json.loads("{" + text[member : end + 1] + "}") == {"b64_json": item["b64_json"]}
            assert json.loads(text[start - 1 : end + 1]) == item["b64_json"]
        assert (link is not None) == isinstance(item.get("url"), str)
        if link is not None:
            assert json.loads(text[link[0] - 1 : link[1] + 1]) == item["url"]
        assert (own is not None) == ("url" in item)
        if own is not None:
            without = text[first : own[0]] + text[own[1] : last]
            assert json.loads(without) == {name: value for name, value in item.items() if name != "url"}
    assert content.document() is not None


@given(garbage=st.binary(max_size=300) | st.text('[]{}":\\da', max_size=60).map(str.encode), cuts=CUTS)
def test_garbage_is_taken_without_an_error(garbage: bytes, cuts: list[int]) -> None:
    """Any bytes are taken, and how they are cut changes nothing."""
    whole, pieces = Finder(), Finder()
    whole.feed(garbage)
    for piece in cut(garbage, cuts):
        pieces.feed(piece)
    assert pieces.found == whole.found


def test_the_list_that_was_written_last_counts() -> None:
    """As for every parser of JSON that takes a name twice."""
    text = b'{"data": [{"b64_json": "old"}], "other": [{"b64_json": "no"}], "data": [{"b64_json": "new"}]}'
    assert [text[start:end] for start, end, *_ in read(text, []).images()] == [b'{"b64_json": "new"}']


def test_a_list_deeper_down_is_not_the_answers() -> None:
    """Only the document's own `data` holds its images."""
    text = (
        b'{"more": {"data": [{"b64_json": "no"}]}, "data": [{"b64_json": "yes", "data": [{"url": "no"}]}], "x": "data"}'
    )
    [(start, end, *_)] = read(text, []).images()
    assert json.loads(text[start:end])["b64_json"] == "yes"


def test_what_is_too_long_to_be_read_is_no_document() -> None:
    """A field that is too long is left out; a document of too many short ones is not taken for one."""
    image = b'"data":[{"b64_json":"' + b"A" * 10 * LONGEST + b'"}]'
    content = read(b'{"long":"' + b"x" * 2 * LONGEST + b'","short":"s",' + image + b"}", [])
    assert set(content.document() or ()) == {"short", "data"}
    assert len(content.images()) == 1
    filled = read(b'{"many":[' + b"1," * MOST_KEPT + b"1]," + image + b"}", [])
    assert (filled.document(), filled.images()) == (None, [])
