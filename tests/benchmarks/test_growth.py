"""What the gateway knows: how costs are compared."""

from __future__ import annotations

import pytest

from benchmarks.growth import beside


def test_a_machine_that_slows_down_is_no_growth() -> None:
    """Twice what the other took at that moment is twice, though the other takes ever longer."""
    others = [100.0, 200.0, 400.0]
    assert beside([2 * 125.0, 2 * 250.0], others, 0.25) == pytest.approx([2.0, 2.0])


def test_each_turn_lies_between_two_of_the_other() -> None:
    """One that was not measured again afterwards cannot be compared with."""
    with pytest.raises(ValueError, match="shorter"):
        beside([1.0, 1.0], [1.0, 1.0], 0.5)
