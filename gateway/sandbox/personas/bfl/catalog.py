"""Black Forest Labs' models as the simulated service knows them: what they take and what they cost.

Source: Black Forest Labs' own skill for its API (prices, input images, limits), its API reference (parameters).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Size = tuple[int, int]

_MEGAPIXEL = 1_048_576
"""Assumed, rounded up: how megapixels are rounded is not published; 1024x1024 is priced as one."""
_FLUX2 = frozenset({"prompt", "width", "height", "seed", "output_format", "safety_tolerance", "input_image"})
_FLUX1 = frozenset({"prompt", "seed", "output_format", "safety_tolerance", "prompt_upsampling"})
_HOOKS = frozenset({"webhook_url", "webhook_secret"})


@dataclass(frozen=True, slots=True)
class Model:
    """A model. Prices are in thousandths of a cent: of the first megapixel, each further one, each one of inputs."""

    id: str
    first: int
    further: int
    parameters: frozenset[str]
    inputs: int = 0
    """Most input images."""
    default_format: str = "jpeg"
    active: int = 24
    """Most tasks that an account may have under way."""
    fills: bool = False

    def millicents(self, size: Size, sources: Sequence[Size]) -> int:
        """What an image costs, in thousandths of a cent."""
        if not self.further:
            return self.first
        out, taken = output_mp(size), input_mp(sources)
        return self.first + (out - 1) * self.further + taken * self.further


def output_mp(size: Size) -> int:
    """Megapixels of an image, rounded up."""
    return max(1, -(-size[0] * size[1] // _MEGAPIXEL))


def input_mp(sources: Sequence[Size]) -> int:
    """Megapixels of all input images, each rounded up."""
    return sum(output_mp(size) for size in sources)


def _flux2(name: str, first: int, further: int, inputs: int = 8, more: frozenset[str] = frozenset()) -> Model:
    further_images = {f"input_image_{number}" for number in range(2, inputs + 1)}
    return Model(name, first, further, _FLUX2 | _HOOKS | further_images | more, inputs)


_KONTEXT = _FLUX1 | _HOOKS | {"aspect_ratio", "input_image", "input_image_2", "input_image_3", "input_image_4"}

MODELS: Mapping[str, Model] = {
    model.id: model
    for model in (
        _flux2("flux-2-klein-4b", 1_400, 100, inputs=4),
        _flux2("flux-2-klein-9b", 1_500, 200, inputs=4),
        _flux2("flux-2-pro", 3_000, 1_500),
        _flux2("flux-2-max", 7_000, 3_000),
        # The skill says 5 and 5 cents, a later copy 6 and 6: what the answer reports is what counts.
        _flux2("flux-2-flex", 6_000, 6_000, more=frozenset({"steps", "guidance", "prompt_upsampling"})),
        Model("flux-kontext-pro", 4_000, 0, _KONTEXT, 4, "png"),
        Model("flux-kontext-max", 8_000, 0, _KONTEXT, 4, "png", active=6),
        Model("flux-pro-1.1", 4_000, 0, _FLUX1 | _HOOKS | {"width", "height", "image_prompt"}),
        Model("flux-pro-1.1-ultra", 6_000, 0, _FLUX1 | _HOOKS | {"aspect_ratio", "raw", "image_prompt"}),
        Model("flux-pro-1.0-fill", 5_000, 0, _FLUX1 | _HOOKS | {"image", "mask", "steps", "guidance"}, 1, fills=True),
    )
}
