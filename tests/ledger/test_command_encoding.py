"""Commands as they are written: what is put together here is what the client library would write."""

from __future__ import annotations

import pytest
from hiredis import pack_command
from hypothesis import given
from hypothesis import strategies as st

from gateway.ledger import connections
from gateway.ledger.connections import packed

PLAIN = st.text(st.characters(codec="ascii")) | st.integers(0, 9000).map("x".__mul__)
WORDS = PLAIN | st.text(st.characters(codec="utf-8")) | st.integers()


@given(st.lists(st.lists(WORDS, min_size=1, max_size=20), min_size=1, max_size=5))
def test_commands_are_written_as_the_library_writes_them(commands: list[list[str | int]]) -> None:
    """Whatever words they have: plain ones, long ones, others, numbers, none with anything in them."""
    written = b"".join([pack_command(tuple(command)) for command in commands])  # type: ignore[arg-type]  # its stub
    assert packed(commands) == written


@pytest.mark.parametrize("word", ["\ud800", None, object()])
def test_what_is_no_text_is_refused(word: str) -> None:
    """Half of a character cannot be sent, nor can what is no word at all."""
    with pytest.raises((ValueError, TypeError)):
        packed([("GET", word)])


def test_what_is_remembered_of_lengths_is_bounded() -> None:
    """A word may have any length, and few of them come again."""
    for length in range(0, 3 * connections._LONGEST_KEPT, 100):
        assert packed([("x" * length,)]) == b"*1\r\n$%d\r\n%s\r\n" % (length, b"x" * length)
    assert max(connections._lengths) < connections._LONGEST_KEPT
