from __future__ import annotations

from dataclasses import replace

from gateway.domain.job import Size


def test_a_record_is_a_value() -> None:
    """Equal fields make equal records of one hash, a change makes another, and there are fields alone."""
    one, same = Size(1024, 768), Size(width=1024, height=768)

    assert one == same
    assert hash(one) == hash(same)
    assert replace(one, height=1) == Size(1024, 1) != one
    assert len({one, same, Size(768, 1024)}) == 2
    assert not hasattr(one, "__dict__")


def test_type_checkers_hold_a_record_frozen() -> None:
    """Setting a field is an error to the type checker, which complains of the comment if it is none."""
    size = Size(1, 2)
    size.width = 3  # type: ignore[misc]  # that it is an error is what is tested
