"""Ranges of an image, as RFC 9110 has them."""

from __future__ import annotations

import pytest

from gateway.images.ranges import part_of


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-9", (0, 10)),
        ("BYTES = 0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=90-500", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-500", (0, 100)),
        ("bytes=-0", (100, 100)),
        ("bytes=100-", (100, 100)),
        ("bytes=500-600", (100, 100)),
        ("bytes=9-3", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("bytes=٣-٤", None),
        ("lines=0-1", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_one_range_is_understood(text: str, part: tuple[int, int] | None) -> None:
    """Cut at the end, empty beyond it; anything else is the whole image."""
    assert part_of(text, 100) == part
