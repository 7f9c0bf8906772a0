"""Replicate's models as the simulated service knows them: what they take, and what an image or a second costs.

Source: replicate.com/pricing of October 2026 and the models' schemas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Size = tuple[int, int]

_NANO_PER_CENT = 10_000_000
RATIOS: Mapping[str, Size] = {
    "1:1": (1024, 1024),
    "16:9": (1344, 768),
    "21:9": (1536, 640),
    "3:2": (1216, 832),
    "2:3": (832, 1216),
    "4:5": (896, 1088),
    "5:4": (1088, 896),
    "3:4": (896, 1152),
    "4:3": (1152, 896),
    "9:16": (768, 1344),
    "9:21": (640, 1536),
}
RESOLUTIONS: Mapping[str, int] = {"1K": 1, "2K": 2, "4K": 4}


@dataclass(frozen=True, slots=True)
class Model:
    """A model: priced per image (`nano`, or by resolution in `tiers`), or per second of hardware (`pico_per_us`)."""

    id: str
    parameters: frozenset[str]
    nano: int = 0
    tiers: Mapping[str, int] = field(default_factory=dict)
    pico_per_us: int = 0
    most: int = 1
    """Most images of one prediction; a model of one answers with a text in place of a list."""
    version: str = "hidden"
    default_format: str = "webp"
    images: str = ""
    """The field that input images are named in: one, or a list where its name is a plural."""
    free_size: bool = False


_FLUX = frozenset({"prompt", "seed", "aspect_ratio", "output_format", "output_quality"})
_OPEN = _FLUX | {"num_outputs", "num_inference_steps", "go_fast", "megapixels", "disable_safety_checker"}

_ALL = (
    Model("black-forest-labs/flux-schnell", _OPEN, 3_000_000, most=4),
    Model(
        "black-forest-labs/flux-dev",
        _OPEN | {"guidance", "image", "prompt_strength"},
        25_000_000,
        most=4,
        images="image",
    ),
    Model(
        "black-forest-labs/flux-1.1-pro",
        _FLUX | {"width", "height", "safety_tolerance", "prompt_upsampling", "image_prompt"},
        4 * _NANO_PER_CENT,
        images="image_prompt",
        free_size=True,
    ),
    Model(
        "google/nano-banana-2",
        frozenset({"prompt", "image_input", "aspect_ratio", "resolution", "output_format"}),
        tiers={"1K": 67_000_000, "2K": 101_000_000, "4K": 151_000_000},
        default_format="jpg",
        images="image_input",
    ),
    # $0.000975 a second of an L40S.
    Model(
        "stability-ai/sdxl",
        frozenset({"prompt", "negative_prompt", "width", "height", "num_outputs", "seed", "image", "prompt_strength"}),
        pico_per_us=975,
        most=4,
        version="7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc",
        default_format="png",
        images="image",
        free_size=True,
    ),
)

MODELS: Mapping[str, Model] = {model.id: model for model in _ALL}
VERSIONS: Mapping[str, Model] = {model.version: model for model in _ALL if model.version != "hidden"}
