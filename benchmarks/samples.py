"""Arithmetic of samples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which this share of all lie; ValueError if there are none."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values")
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


@dataclass(frozen=True)
class Load:
    """What came of keeping a target busy: good answers and bytes per second, and seconds at p50 and p99.

    `answers` counts all that were asked for and ended, `failed` those of them that were refused or broke off.
    """

    rate: float
    volume: float
    p50: float
    p99: float
    failed: int
    answers: int
