"""fal, Replicate and Black Forest Labs: work that is taken on and answered later."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.providers.case import Choices, Failing, Provider, Slip, Sold
from tests.e2e.providers.evolink import FAST

_LOST = [
    Failing("lost answer", "lost_response", {}, 502, presumed=True),
    Failing("half an answer", "half_body", {}, 502, presumed=True),
    Failing("garbage", "garbage", {}, 502, presumed=True),
    Failing("dead link", "expired_link", {"status": 403}, 502, said="expired"),
]
_ACCOUNT = [
    Failing("no key", "status", {"status": 401, "message": "No key."}, 502),
    Failing("no credit", "status", {"status": 402, "message": "No credit."}, 502),
    Failing("no access", "status", {"status": 403, "message": "No access."}, 502),
    Failing("not found", "status", {"status": 404, "message": "Not found."}, 502),
    Failing("rate limited", "rate_limit", {"retry_after": 120}, 429),
    Failing("server error", "status", {"status": 500, "message": "Oops."}, 502, calls=2),
    Failing("unavailable", "status", {"status": 503, "message": "Oops."}, 502, calls=2),
]
_SLIPS = [
    Slip("status", {"status": 503}),
    Slip("poll_error", {"status": 500}),
    Slip("unknown_status"),
    Slip("slow_work", {"seconds": 1}),
]
_FLUX: Sequence[object] = ["1024x1024", "1024x1024", "1024x768", "512x512", "1536x1024", "768x1344"]
_OPEN: Choices = {"size": _FLUX, "n": [None, 1, 2, 3, 4]}
_ULTRA: Choices = {"size": [None, "1:1", "16:9", "3:2"], "output_format": [None, "png", "jpeg"]}

FAL = Provider(
    name="fal",
    persona="fal",
    configured=f"preset: fal, {FAST}",
    at="/fal",
    sold={
        "gpt-image-2": Sold(
            "offer: fal/gpt-image-2",
            {
                "size": ["1024x1024", "1024x768", "1536x1024", "1024x1536", "2560x1440"],
                "quality": [None, "low", "low", "medium", "high"],
                "n": [None, 1, 2, 3, 4],
                "output_format": [None, "png", "jpeg", "webp"],
            },
            "usage",
            edits=3,
            masks=True,
        ),
        "flux-schnell": Sold("offer: fal/flux-schnell", _OPEN, "usage"),
        "flux-dev": Sold("offer: fal/flux-dev", _OPEN, "usage"),
        "flux-1.1-pro": Sold(
            "offer: fal/flux-1.1-pro", {"size": [None, "1024x1024", "1024x768", "1440x1440"]}, "usage"
        ),
        "ultra": Sold("offer: fal/flux-1.1-pro-ultra", _ULTRA, "usage"),
    },
    failing=[
        *_ACCOUNT,
        *_LOST,
        Failing("bad request", "status", {"status": 422, "message": "bad input"}, 422, said="bad input", cautious=True),
        Failing("moderated", "moderation", {"stage": "input"}, 400, "moderation_blocked", cautious=True),
        Failing("moderated and charged", "moderation", {"stage": "input", "billed": True}, 400, "moderation_blocked"),
        *(
            Failing(
                code,
                "task_error",
                {"code": code, "message": "It is invalid."},
                400,
                code,
                said="It is invalid.",
                cautious=True,
            )
            for code in ("image_too_small", "image_too_large", "image_load_error", "file_download_error")
        ),
        Failing(
            "invalid and charged",
            "task_error",
            {"code": "image_too_small", "message": "It is invalid.", "billed": True},
            400,
            "image_too_small",
        ),
        *(
            Failing(code, "task_error", {"code": code}, 502, calls=2)
            for code in ("internal_server_error", "generation_timeout", "downstream_service_unavailable")
        ),
    ],
    slips=[
        *_SLIPS,
        Slip("moderation", {"stage": "input", "billed": True}, status=400),
        Slip("task_error", {"code": "internal_server_error"}),
        Slip("task_error", {"code": "file_download_error", "billed": True}, status=400),
    ],
)

REPLICATE = Provider(
    name="replicate",
    persona="replicate",
    configured=f"preset: replicate, {FAST}",
    at="/replicate/v1",
    sold={
        "flux-1.1-pro": Sold(
            "offer: replicate/flux-1.1-pro", {"size": [None, "1024x1024", "1:1", "1344x768"]}, "usage"
        ),
        "flux-dev": Sold("offer: replicate/flux-dev", {"size": ["1024x1024"], "n": [None, 1, 2, 4]}, "usage", edits=1),
        "flux-schnell": Sold("offer: replicate/flux-schnell", {"size": ["1024x1024"], "n": [None, 1, 3, 4]}, "usage"),
        "sdxl": Sold("offer: replicate/sdxl", {"size": ["1024x1024", "768x768"], "n": [None, 1, 2]}, "usage"),
        "nano-banana-2": Sold(
            "offer: replicate/gemini-3.1-flash-image",
            {"size": [None, "1:1", "3:2", "16:9"], "resolution": [None, "1K", "2K"]},
            "usage",
            edits=3,
        ),
    },
    failing=[
        *_ACCOUNT,
        *_LOST,
        Failing("bad request", "status", {"status": 422, "message": "- input.prompt: no"}, 422, said="input.prompt"),
        Failing("failed", "task_error", {"code": "", "message": "CUDA out of memory"}, 502, calls=2),
    ],
    slips=[
        *_SLIPS,
        Slip("task_error", {"code": "", "message": "CUDA out of memory"}, only="flux-dev"),
        Slip("task_error", {"code": "", "message": "CUDA out of memory", "billed": True}, only="sdxl"),
    ],
)

BFL = Provider(
    name="bfl",
    persona="bfl",
    configured=f"preset: bfl, {FAST}",
    at="/bfl/v1",
    sold={
        "flux-2-pro": Sold(
            "model: flux-2-pro",
            {"size": [None, "1024x1024", "1536x1024", "2048x2048"], "n": [None, 1, 2], "output_format": [None, "png"]},
            "reported",
            edits=3,
        ),
        "flux-2-flex": Sold("model: flux-2-flex", {"size": ["1024x1024", "1440x2048"]}, "reported", edits=3),
        "flux-2-max": Sold("model: flux-2-max", {"size": ["1024x1024", "1440x2048"]}, "reported", edits=3),
        "klein-4b": Sold("model: flux-2-klein-4b", {"size": ["1024x1024", "512x512"]}, "reported", edits=3),
        "klein-9b": Sold("model: flux-2-klein-9b", {"size": ["1024x1024", "512x512"]}, "reported", edits=3),
        "kontext-pro": Sold("model: flux-kontext-pro", {"size": ["1:1", "16:9"]}, "reported", edits=2),
        "kontext-max": Sold("model: flux-kontext-max", {"size": ["1:1", "16:9"]}, "reported", edits=2),
        "pro-1.1": Sold("offer: bfl/flux-1.1-pro", {"size": ["1024x1024", "1440x1440"]}, "reported"),
        "ultra-1.1": Sold("offer: bfl/flux-1.1-pro-ultra", {"size": [None, "1:1", "16:9"]}, "reported"),
        "fill": Sold("offer: bfl/flux-1.0-fill", {}, "reported", edits=1, generates=False, required_mask=True),
    },
    failing=[
        *_ACCOUNT,
        *_LOST,
        Failing("bad request", "status", {"status": 422, "message": "bad width"}, 422, said="bad width"),
        Failing("moderated", "moderation", {"stage": "input"}, 400, "moderation_blocked"),
        Failing("moderated afterwards", "moderation", {"stage": "output"}, 400, "moderation_blocked"),
        Failing("failed", "task_error", {"code": "Failed"}, 502, calls=2),
        Failing("error", "task_error", {"code": "Error"}, 502, calls=2),
    ],
    slips=[*_SLIPS, Slip("moderation", {"stage": "output"}, status=400), Slip("task_error", {"code": "Error"})],
)
