"""Recorded calls: how the calls of one booking ended, as far as its record tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RecordedCalls:
    """The calls by which `n` images were asked for: each was answered, refused at a charge or not, or is unknown.

    They share the images alike; which of them had one more, where that leaves a rest, nobody has written down.
    """

    n: int
    every: int
    refused: int
    """Refusals that were charged."""
    unknown_images: int
    """Images that calls of unknown outcome were asked for."""
    images: int
    """Images that came, where that is known."""

    @property
    def unknown(self) -> int:
        """Calls of unknown outcome."""
        return self._holding(self.unknown_images)

    @property
    def answered(self) -> int:
        """Calls that were answered, at least one; all that may be where no image is known of."""
        most = self.every - self.refused - self.unknown
        return max(min(self._holding(self.images), most) if self.images else most, 1)

    @property
    def asked(self) -> int:
        """Images that those were asked for, at least one."""
        return max(min(-(-self.answered * self.n // self.every), self.n - self.unknown_images), 1)

    def _holding(self, images: int) -> int:
        return -(-images * self.every // self.n)


def recorded_calls(n: int, images: int, facts: Mapping[str, Any], answer: Mapping[str, Any]) -> RecordedCalls:
    """Return the calls by what was sent (`facts`) and what came of it (`answer`): one, if neither says how many.

    `images` is how many came; 0 where that is not known, as of a correction, which tells the difference alone.
    """
    every = int(answer.get("calls") or facts.get("calls") or 1)
    refused = int(answer.get("charged_calls") or 1) if answer.get("charged_for") else 0
    return RecordedCalls(max(n, 1), every, refused, int(answer.get("unknown_images") or 0), images)


def answered_tokens(usage: Mapping[str, int] | None, answer: Mapping[str, Any]) -> Mapping[str, int] | None:
    """Return the tokens of what was answered: those on record without those of refusals; None if there are none."""
    refused = answer.get("charged_tokens")
    if usage is None or refused is None:
        return usage
    rest = {name: count - int(refused.get(name, 0)) for name, count in usage.items()}
    return rest if any(rest.values()) else None
