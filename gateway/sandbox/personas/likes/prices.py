"""What providers that are nearly alike charge for an image of the models that they are known to sell, in their units.

Sources, read November 2026: openrouter.ai/docs; docs.x.ai by way of litellm 1.109.1 (of 2.0, 2K is derived from the
range that it publishes); Portkey-AI/models of 2026-08-21 for Together, by the pixel; recraft.ai/docs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gateway.sandbox.personas.likes.like import Job

Prices = Mapping[str, Callable[[Job], int]]

_UP_TO_1K = 1_700_000
_TICKS = {("low", "1K"): 400_000_000, ("low", "2K"): 600_000_000}
_TICKS |= {("medium", "1K"): 600_000_000, ("medium", "2K"): 800_000_000}
_RECRAFT = {"v4_1": 35, "v4_1_pro": 210, "v4_1_flash": 7, "v4_1_vector": 80, "v3": 40, "v3_vector": 80, "v2": 22}


def _flat(units: int) -> Callable[[Job], int]:
    return lambda _: units


def _per_pixel(units: int) -> Callable[[Job], int]:
    return lambda job: units * job.width * job.height


def _by_quality(job: Job) -> int:
    return _TICKS[job.quality or "medium", "1K" if job.width * job.height <= _UP_TO_1K else "2K"]


OPENROUTER: Prices = {"bytedance-seed/seedream-4.5": _flat(50_000_000)}
"""Nano-USD."""
XAI: Prices = {"grok-imagine-image": _flat(200_000_000), "grok-imagine-image-2.0": _by_quality}
"""Ticks, of which 10^10 are a dollar."""
TOGETHER: Prices = {
    "black-forest-labs/FLUX.1-schnell": _per_pixel(2_700),
    "black-forest-labs/FLUX.1-dev": _per_pixel(25_000),
    "black-forest-labs/FLUX.1-kontext-pro": _flat(40_000_000_000),
    "black-forest-labs/FLUX.1-kontext-max": _flat(80_000_000_000),
}
"""Pico-USD."""
RECRAFT: Prices = {f"recraft{name}": _flat(units) for name, units in _RECRAFT.items()}
"""Credits, of which 1000 are a dollar."""
