"""Wires: the providers that are nearly alike, each with its traps.

Sources: OpenRouterTeam/docs c26125a, xai-sdk 1.21.0, together 3.1.1, deepinfra/docs 0db204f, recraft.ai/docs,
vllm-omni 0.30.0, sglang 0.5.23, mudler/LocalAI 82c191a, leejet/stable-diffusion.cpp 97d2990. Prices: of models
that a provider is known to sell those that it publishes (as of November 2026), of all others made up.
"""

from __future__ import annotations

import time
from typing import Any

from gateway.sandbox.personas.likes.like import EDIT, GENERATE, Fields, Like, Made, Refused
from gateway.sandbox.personas.likes.prices import OPENROUTER, RECRAFT, TOGETHER, XAI

MASKED = "masked"
_PLAIN = frozenset({"model", "prompt", "n", "size", "response_format"})
_TUNED = frozenset({"seed", "negative_prompt", "num_inference_steps", "guidance_scale", "output_format"})
_AREAS = {"1k": 1024, "2k": 2048}
_DOLLAR_IN_NANO = 10**9
_DOLLAR_IN_PICO = 10**12


def _items(made: Made, **more: object) -> list[dict[str, Any]]:
    if made.job.response_format == "url":
        return [{"url": link, **more} for link in made.links]
    return [{"b64_json": image, **more} for image in made.images]


def _detail(refused: Refused) -> dict[str, Any]:
    if refused.status == 422:  # noqa: PLR2004 - what FastAPI answers to a value that it refuses
        return {"detail": [{"type": "value_error", "loc": ["body", refused.code], "msg": refused.message}]}
    return {"detail": refused.message}


def _openrouter(made: Made) -> dict[str, Any]:
    images, output = len(made.images), 4160 * len(made.images)
    usage: dict[str, Any] = {"prompt_tokens": 12, "completion_tokens": output, "total_tokens": 12 + output}
    usage["cost"] = made.charge / _DOLLAR_IN_NANO
    return {"created": int(time.time()), "data": _items(made, media_type="image/png") if images else [], "usage": usage}


def _openrouter_error(refused: Refused) -> dict[str, Any]:
    return {"error": {"code": refused.status, "message": refused.message, "metadata": refused.more}}


def _openrouter_check(operation: str, fields: Fields) -> None:
    for reference in fields.get("input_references", []):
        if reference.get("type") != "image_url" or not reference.get("image_url", {}).get("url"):
            raise Refused(400, "input_references: each is {type: image_url, image_url: {url}}")
    if "size" in fields and ("aspect_ratio" in fields or "resolution" in fields):
        raise Refused(400, f"{operation}: size conflicts with aspect_ratio and resolution")


def _xai(made: Made) -> dict[str, Any]:
    usage = {"cost_in_usd_ticks": made.charge}
    if made.withheld:
        return {"data": [{"respect_moderation": False, "mime_type": "image/jpeg"}], "usage": usage}
    about = {"mime_type": "image/jpeg", "respect_moderation": True, "revised_prompt": ""}
    items = _items(made, **about)
    for item in items:
        if "b64_json" in item:
            item["b64_json"] = f"data:image/jpeg;base64,{item['b64_json']}"
    return {"data": items, "usage": usage}


def _xai_error(refused: Refused) -> dict[str, Any]:
    return {"code": "Client specified an invalid argument", "error": refused.message}


def _xai_check(operation: str, fields: Fields) -> None:
    for name in ("size", "style"):
        if name in fields:
            raise Refused(400, f"Argument not supported: {name}")
    if operation == EDIT:
        for image in fields.get("images", []):
            if set(image) != {"url", "type"}:
                raise Refused(400, "images: each is {url, type: image_url}")


def _xai_size(fields: Fields) -> tuple[int, int] | None:
    across, _, down = str(fields.get("aspect_ratio", "1:1")).partition(":")
    edge = _AREAS[fields.get("resolution", "1k")]
    ratio = (int(across) / int(down)) ** 0.5
    return max(64, round(edge * ratio)), max(64, round(edge / ratio))


def _together(made: Made) -> dict[str, Any]:
    named = {"type": made.job.response_format}
    if made.job.response_format == "url":
        items = [{"index": at, **named, "url": link} for at, link in enumerate(made.links)]
    else:
        items = [{"index": at, "type": "b64_json", "b64_json": image} for at, image in enumerate(made.images)]
    return {"id": "oBq1K2e-4Yz4kd", "model": made.job.model, "object": "list", "data": items}


def _together_error(refused: Refused) -> dict[str, Any]:
    error = {"message": refused.message, "type": "invalid_request_error", "param": None, "code": refused.code}
    return {"id": "oBq1K2e", "error": error}


def _together_check(operation: str, fields: Fields) -> None:
    if operation == EDIT and not all(str(url).startswith("http") for url in fields.get("reference_images", [])):
        raise Refused(400, "reference_images must be URLs")


def _together_size(fields: Fields) -> tuple[int, int] | None:
    return (fields["width"], fields["height"]) if "width" in fields else None


def _plain(made: Made) -> dict[str, Any]:
    return {"created": int(time.time()), "data": _items(made)}


def _recraft(made: Made) -> dict[str, Any]:
    return {"created": int(time.time()), "credits": made.charge, "data": _items(made, image_id="8f3c")}


def _recraft_error(refused: Refused) -> dict[str, Any]:
    return {"code": str(refused.code or "invalid_request"), "message": refused.message}


def _recraft_check(operation: str, fields: Fields) -> None:
    if operation == EDIT and "strength" not in fields:
        raise Refused(400, "strength is required", "invalid_parameter")
    if operation == MASKED and "strength" in fields:
        raise Refused(400, "strength is not a parameter of inpainting", "invalid_parameter")


def _vllm(made: Made) -> dict[str, Any]:
    more = {"output_format": made.job.output_format, "size": made.job.size, "metrics": {"stages": []}}
    return {**_plain(made), **more}


def _sglang(made: Made) -> dict[str, Any]:
    usage = {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None, "image_count": len(made.images)}
    return {**_plain(made), "id": "5a1c", "usage": usage, "inference_time_s": 1.25}


def _localai(made: Made) -> dict[str, Any]:
    details = {"text_tokens": 0, "image_tokens": 0}
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "input_tokens_details": details}
    return {**_plain(made), "id": "b7", "usage": usage}


def _localai_error(refused: Refused) -> dict[str, Any]:
    return {"error": {"code": refused.status, "message": refused.message, "type": ""}}


def _sdcpp(made: Made) -> dict[str, Any]:
    return {**_plain(made), "output_format": made.job.output_format}


def _sdcpp_error(refused: Refused) -> dict[str, Any]:
    return {"error": refused.message}


def _openai_like(edit: frozenset[str] = frozenset(), more: frozenset[str] = frozenset()) -> dict[str, frozenset[str]]:
    return {GENERATE: _PLAIN | more, EDIT: _PLAIN | more | edit}


_PATHS = {GENERATE: "/images/generations", EDIT: "/images/edits"}
_STYLES = frozenset({"style", "substyle", "style_id", "controls", "negative_prompt"})

LIKES = (
    Like(
        name="openrouter",
        paths={GENERATE: "/images"},
        fields={
            GENERATE: _PLAIN - {"response_format"}
            | {"quality", "background", "output_format", "output_compression", "seed", "provider"}
            | {"input_references", "aspect_ratio", "resolution"}
        },
        answer=_openrouter,
        error=_openrouter_error,
        units_per_image=41_234_567,
        units_per_usd=_DOLLAR_IN_NANO,
        prices=OPENROUTER,
        moderation_status=403,
        check=_openrouter_check,
    ),
    Like(
        name="xai",
        paths=_PATHS,
        fields=_openai_like(frozenset({"images"}), frozenset({"aspect_ratio", "resolution", "quality", "style"})),
        answer=_xai,
        error=_xai_error,
        units_per_image=700_000_005,
        units_per_usd=10**10,
        prices=XAI,
        form=False,
        output_format="jpeg",
        response_formats=("url", "b64_json"),
        withholds=True,
        check=_xai_check,
        size=_xai_size,
    ),
    Like(
        name="together",
        paths={GENERATE: "/images/generations"},
        fields={
            GENERATE: _PLAIN - {"size"}
            | {"width", "height", "steps", "seed", "negative_prompt", "output_format", "reference_images"}
        },
        answer=_together,
        error=_together_error,
        units_per_image=27_000_000_000,
        units_per_usd=_DOLLAR_IN_PICO,
        prices=TOGETHER,
        form=False,
        output_format="jpeg",
        response_formats=("url", "base64"),
        check=_together_check,
        size=_together_size,
    ),
    Like(
        name="deepinfra",
        paths=_PATHS,
        fields=_openai_like(frozenset({"image", "mask"})),
        answer=_plain,
        error=_detail,
        units_per_image=15_000_000,
        units_per_usd=_DOLLAR_IN_NANO,
    ),
    Like(
        name="recraft",
        paths={GENERATE: "/images/generations", EDIT: "/images/imageToImage", MASKED: "/images/inpaint"},
        fields={
            GENERATE: _PLAIN | _STYLES,
            EDIT: (_PLAIN - {"size"}) | _STYLES | {"image", "strength"},
            MASKED: (_PLAIN - {"size"}) | _STYLES | {"image", "mask", "strength"},
        },
        answer=_recraft,
        error=_recraft_error,
        units_per_image=35,
        units_per_usd=1000,
        prices=RECRAFT,
        response_formats=("url", "b64_json"),
        check=_recraft_check,
    ),
    Like(
        name="vllm-omni",
        paths=_PATHS,
        fields=_openai_like(frozenset({"image", "url", "mask_image"}), _TUNED),
        answer=_vllm,
        error=_detail,
        units_per_image=3_000_000,
        units_per_usd=_DOLLAR_IN_NANO,
        key=False,
    ),
    Like(
        name="sglang",
        paths=_PATHS,
        fields=_openai_like(frozenset({"image", "mask"}), _TUNED | {"background"}),
        answer=_sglang,
        error=_detail,
        units_per_image=3_000_000,
        units_per_usd=_DOLLAR_IN_NANO,
        strict=False,
        response_formats=("url", "b64_json"),
    ),
    Like(
        name="localai",
        paths={GENERATE: "/images/generations"},
        fields={GENERATE: _PLAIN | {"seed", "step", "quality"}},
        answer=_localai,
        error=_localai_error,
        units_per_image=3_000_000,
        units_per_usd=_DOLLAR_IN_NANO,
        strict=False,
        response_formats=("url", "b64_json"),
    ),
    Like(
        name="stable-diffusion-cpp",
        paths=_PATHS,
        fields=_openai_like(frozenset({"image", "mask"}), frozenset({"output_format", "output_compression"})),
        answer=_sdcpp,
        error=_sdcpp_error,
        units_per_image=3_000_000,
        units_per_usd=_DOLLAR_IN_NANO,
        strict=False,
        key=False,
    ),
)
