"""Paths into JSON."""

from __future__ import annotations

import pytest

from gateway.domain.json_path import first, found, parse

DOCUMENT = {
    "id": "t1",
    "error": None,
    "urls": {"get": "u"},
    "results": ["a", "b"],
    "images": [{"url": "x"}, {"no": 1}, {"url": "y"}],
    "deep": [[1, 2], [3]],
}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("id", ["t1"]),
        ("urls.get", ["u"]),
        ("results", [["a", "b"]]),
        ("results[*]", ["a", "b"]),
        ("results[1]", ["b"]),
        ("results[7]", []),
        ("images[*].url", ["x", "y"]),
        ("images[0].url", ["x"]),
        ("deep[*][0]", [1, 3]),
        ("error", []),
        ("error.code", []),
        ("id.x", []),
        ("id[0]", []),
        ("missing", []),
    ],
)
def test_what_lies_at_a_path(path: str, wanted: list[object]) -> None:
    """Members, items and all items are found; null and what is not there are nothing."""
    assert found(DOCUMENT, path) == wanted


def test_the_first_path_that_finds_something_counts() -> None:
    """Alternatives are tried in order, and an empty one is none."""
    assert first(DOCUMENT, "", "error.code", "urls.get", "id") == "u"
    assert first(DOCUMENT, "nothing") is None


@pytest.mark.parametrize("path", ["", ".", "a.", "a..b", "a[", "a[x]", "a[-1]", "[0]", "$.a", "a b"])
def test_what_is_no_path(path: str) -> None:
    """Anything else is refused."""
    with pytest.raises(ValueError, match="is no path"):
        parse(path)
