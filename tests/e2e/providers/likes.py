"""Providers that speak nearly the same: those whose prices the catalog has, and servers of one's own."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.providers.case import Choices, Failing, Provider, Slip, Sold

_N: Sequence[object] = [None, 1, 1, 2, 3]
_LOST = [
    Failing("closed at once", "connection_closed", {}, 502, presumed=True),
    Failing("lost answer", "lost_response", {}, 502, presumed=True),
    Failing("half an answer", "half_body", {}, 502, presumed=True),
    Failing("garbage", "garbage", {}, 502, presumed=True),
]
_SERVER = [
    Failing("rate limited", "status", {"status": 429, "message": "slow down"}, 429, calls=2),
    Failing("server error", "status", {"status": 500, "message": "oops"}, 502, calls=2),
    Failing("unavailable", "status", {"status": 503, "message": "oops"}, 502, calls=2),
]
_ACCOUNT = [
    Failing("no key", "status", {"status": 401, "message": "no key"}, 502),
    Failing("not found", "status", {"status": 404, "message": "no such model"}, 502),
]
_SLIPS = [
    Slip("status", {"status": 500, "message": "oops"}),
    Slip("status", {"status": 503, "message": "oops"}),
    Slip("status", {"status": 400, "message": "no"}, status=400),
    Slip("slow_body", {"seconds": 0.5}),
]
_BLOCKED = Failing("moderated", "", {}, 400, "moderation_blocked", asked={"prompt": "a cat blocked-by-moderation"})


def _bad(status: int, **parameters: object) -> Failing:
    return Failing("invalid", "status", {"status": status, "message": "bad", **parameters}, status, said="bad")


def _like(name: str, sold: dict[str, Sold], *failing: Failing, keyed: bool = True) -> Provider:
    return Provider(
        name=name,
        persona=name,
        configured=f"preset: {name}",
        at=f"/likes/{name}/v1",
        sold=sold,
        failing=[*failing, *(_ACCOUNT if keyed else ()), *_SERVER, *_LOST],
        looks=name != "together",
        slips=[*_SLIPS, Slip("wrong_count", fewer=1, only=next(iter(sold)))],
    )


_RECRAFT_SIZES: Choices = {"size": [None, "1024x1024", "1365x1024", "1536x1024"], "n": _N}

OPENROUTER = _like(
    "openrouter",
    {
        "seedream": Sold(
            "offer: openrouter/seedream-4.5", {"size": [None, "1:1", "2048x2048"], "n": _N}, "reported", edits=3
        )
    },
    _bad(400),
    _BLOCKED,
    Failing("no credit", "status", {"status": 402, "message": "no credits"}, 502),
    Failing("too large", "status", {"status": 413, "message": "too large"}, 413, said="too large"),
    Failing("bad gateway", "status", {"status": 502, "message": "upstream"}, 502, calls=2),
    Failing("timed out", "status", {"status": 524, "message": "late"}, 504, presumed=True),
    Failing("overloaded", "status", {"status": 529, "message": "busy"}, 502, calls=2),
)
XAI = _like(
    "xai",
    {
        "image": Sold("model: grok-imagine-image", {"size": [None, "1:1", "16:9"], "n": _N}, "reported", edits=3),
        "image-2.0": Sold(
            "model: grok-imagine-image-2.0",
            {
                "size": [None, "1:1", "3:2"],
                "resolution": [None, "1K", "2K"],
                "quality": [None, "low", "medium"],
                "n": _N,
            },
            "reported",
            edits=3,
        ),
    },
    _bad(400),
    _BLOCKED,
    Failing("withheld", "", {}, 400, "moderation_blocked", asked={"prompt": "a cat withheld-by-moderation"}),
)
_MEGAPIXELS: Choices = {"size": ["1024x1024", "1024x768", "512x512", "1280x720"], "n": _N}
TOGETHER = _like(
    "together",
    {
        "flux-schnell": Sold("offer: together/flux-schnell", _MEGAPIXELS, "usage"),
        "flux-dev": Sold("offer: together/flux-dev", _MEGAPIXELS, "usage"),
        "kontext-pro": Sold("offer: together/flux-kontext-pro", {"size": ["1:1", "16:9"]}, "usage", edits=2),
        "kontext-max": Sold("offer: together/flux-kontext-max", {"size": ["1:1", "16:9"]}, "usage", edits=2),
    },
    _bad(400),
)
RECRAFT = _like(
    "recraft",
    {
        "v4.1": Sold("offer: recraft/recraft-v4.1", _RECRAFT_SIZES, "reported"),
        "v4.1-pro": Sold("offer: recraft/recraft-v4.1-pro", {"n": _N}, "reported"),
        "v4.1-flash": Sold("offer: recraft/recraft-v4.1-flash", _RECRAFT_SIZES, "reported"),
        "v3": Sold("offer: recraft/recraft-v3", _RECRAFT_SIZES, "reported"),
        "v2": Sold("offer: recraft/recraft-v2", _RECRAFT_SIZES, "reported"),
    },
    _bad(400, code="invalid_style"),
    _BLOCKED,
)

OWN_MODEL = """
models:
  canvas:
    capabilities:
      operations: [generate, edit]
      n: 10
      references: 3
      mask: true
      quality: [standard]
      output_formats: [png, jpeg, webp]
      sizes: {multiple: 8, max_edge: 2048, max_pixels: 4194304}
    price: [{from: 2026-01-01, source: {url: "https://example.com/prices"}, per_image: "0.10"}]
"""
"""The catalog has no prices of one's own servers, nor of DeepInfra: what they cost is said on the route."""


def _own(price: str, *, edits: int = 3, masks: bool = True) -> dict[str, Sold]:
    paid = f'[{{from: 2026-01-01, source: {{url: "https://example.com/prices"}}, per_image: "{price}"}}]'
    fields: Choices = {"size": ["1024x1024", "512x512", "1024x768"], "n": _N}
    return {"canvas": Sold(f"model: canvas, price: {paid}", fields, "usage", edits=edits, masks=masks)}


DEEPINFRA = _like("deepinfra", _own("0.015"), _bad(422, code="n"), _BLOCKED)
VLLM_OMNI = _like("vllm-omni", _own("0.003"), _bad(422, code="n"), keyed=False)
SGLANG = _like("sglang", _own("0.003", masks=False), _bad(400), keyed=False)
LOCALAI = _like("localai", _own("0.003", edits=0, masks=False), _bad(400), keyed=False)
SD_CPP = _like("stable-diffusion-cpp", _own("0.003"), _bad(400), keyed=False)

LIKES = (OPENROUTER, XAI, TOGETHER, RECRAFT, DEEPINFRA, VLLM_OMNI, SGLANG, LOCALAI, SD_CPP)
