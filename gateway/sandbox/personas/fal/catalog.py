"""fal's endpoints as the simulated service knows them: what they take, their unit, and how many units an image is.

Sources: the endpoints' pages on fal.ai (parameters; price of gpt-image-2 by quality and size, which is its tokens at
OpenAI's rates rounded up to a tenth of a cent), docs.fal.ai (billing by units).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gateway.sandbox.personas.openai.catalog import MODELS
from gateway.sandbox.personas.openai.pricing import input_image_tokens, output_tokens

Size = tuple[int, int]

_MEGAPIXEL = 1_048_576
"""Assumed: fal does not say whether a megapixel is a million pixels; 1024x1024 is priced as one."""
_PICO_PER_UNIT = 1_000_000_000
_SIZES: Mapping[str, Size] = {
    "square_hd": (1024, 1024),
    "square": (512, 512),
    "portrait_4_3": (768, 1024),
    "portrait_16_9": (576, 1024),
    "landscape_4_3": (1024, 768),
    "landscape_16_9": (1024, 576),
}
_LARGER: Mapping[str, Size] = {
    **_SIZES,
    "square": (1024, 1024),
    "portrait_16_9": (1088, 1920),
    "landscape_16_9": (1920, 1088),
}
"""Assumed of the names that would be below the model's least number of pixels."""
_RATIOS: Mapping[str, Size] = {
    "21:9": (3136, 1344),
    "16:9": (2752, 1536),
    "4:3": (2368, 1792),
    "3:2": (2496, 1664),
    "1:1": (2048, 2048),
    "2:3": (1664, 2496),
    "3:4": (1792, 2368),
    "9:16": (1536, 2752),
    "9:21": (1344, 3136),
}
_COMMON = frozenset({"prompt", "num_images", "output_format", "sync_mode"})
_FLUX = _COMMON | {"seed", "num_inference_steps", "guidance_scale", "enable_safety_checker", "safety_tolerance"}


@dataclass(frozen=True, slots=True)
class Making:
    """What the number of units depends on: size and quality of each image, how many, and sizes of the inputs."""

    size: Size
    quality: str
    images: int
    sources: Sequence[Size]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model's endpoint. `unit_nano` is nano-USD for a unit; `units` how many units work is."""

    id: str
    unit: str
    unit_nano: int
    units: Callable[[Making], int]
    parameters: frozenset[str]
    sizes: Mapping[str, Size]
    size_field: str = "image_size"
    default_size: str = "landscape_4_3"
    default_format: str = "jpeg"
    formats: tuple[str, ...] = ("jpeg", "png")
    qualities: tuple[str, ...] = ()
    edits: bool = False
    multiple: int = 1

    @property
    def application(self) -> str:
        """Owner and alias, which is all of the path that requests are found under."""
        return "/".join(self.id.split("/")[:2])


def _megapixels(making: Making) -> int:
    width, height = making.size
    return -(-width * height // _MEGAPIXEL) * making.images


def _per_image(making: Making) -> int:
    return making.images


def _thousandths(making: Making) -> int:
    """Tokens at $30 and, of input images, $8 per million, in tenths of a cent, rounded up for each image."""
    model = MODELS["gpt-image-2"]
    rates = model.rates
    made = output_tokens(model, *making.size, making.quality) * rates.image_out
    taken = input_image_tokens(model, making.sources, None) * rates.image_in
    return -(-(made + taken) // _PICO_PER_UNIT) * making.images


_GPT = Endpoint(
    "openai/gpt-image-2",
    "thousandths of a dollar",
    1_000_000,
    _thousandths,
    _COMMON | {"image_size", "quality"},
    _LARGER,
    default_format="png",
    formats=("jpeg", "png", "webp"),
    qualities=("low", "medium", "high"),
    multiple=16,
)
_SCHNELL = Endpoint(
    "fal-ai/flux/schnell", "megapixels", 3_000_000, _megapixels, _FLUX | {"image_size", "acceleration"}, _SIZES
)

ENDPOINTS: Mapping[str, Endpoint] = {
    endpoint.id: endpoint
    for endpoint in (
        _GPT,
        Endpoint(
            "openai/gpt-image-2/edit",
            _GPT.unit,
            _GPT.unit_nano,
            _thousandths,
            _GPT.parameters | {"image_urls", "mask_url"},
            _LARGER,
            default_format="png",
            formats=_GPT.formats,
            qualities=_GPT.qualities,
            edits=True,
            multiple=16,
        ),
        _SCHNELL,
        Endpoint("fal-ai/flux/dev", "megapixels", 25_000_000, _megapixels, _SCHNELL.parameters, _SIZES),
        Endpoint("fal-ai/flux-pro/v1.1", "megapixels", 40_000_000, _megapixels, _FLUX | {"image_size"}, _SIZES),
        Endpoint(
            "fal-ai/flux-pro/v1.1-ultra",
            "images",
            60_000_000,
            _per_image,
            _FLUX | {"aspect_ratio", "raw"},
            _RATIOS,
            size_field="aspect_ratio",
            default_size="16:9",
        ),
    )
}
APPLICATIONS = frozenset(endpoint.application for endpoint in ENDPOINTS.values())
