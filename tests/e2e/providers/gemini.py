"""Gemini, by `generateContent`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.providers.case import Choices, Failing, Provider, Slip, Sold

_RATIOS: Sequence[object] = [None, "1:1", "3:2", "16:9", "2:3", "1024x1024"]
_TIERS: Choices = {"size": _RATIOS, "resolution": [None, "512", "1K", "2K"], "n": [None, 1, 1, 2]}
_ONE: Choices = {"size": _RATIOS, "n": [None, 1, 1, 2]}

GEMINI = Provider(
    name="gemini",
    persona="gemini",
    configured="kind: gemini",
    at="/gemini/v1beta",
    sold={
        "3.1-flash": Sold("model: gemini-3.1-flash-image", _TIERS, "usage", edits=3),
        "3.1-lite": Sold("model: gemini-3.1-flash-lite-image", _ONE, "usage", edits=3),
        "3-pro": Sold("model: gemini-3-pro-image", {**_ONE, "resolution": [None, "1K", "2K"]}, "usage", edits=3),
        "2.5-flash": Sold("model: gemini-2.5-flash-image", _ONE, "usage", edits=3),
        "nano-banana-2.1": Sold("model: gemini-nano-banana-2.1", _ONE, "usage", edits=3),
    },
    failing=[
        Failing("invalid", "status", {"status": 400, "message": "bad"}, 400, "invalid_argument", said="bad"),
        Failing("region", "status", {"status": 400, "code": "FAILED_PRECONDITION"}, 502),
        Failing("no key", "status", {"status": 403}, 502),
        Failing("no model", "status", {"status": 404}, 502),
        Failing("rate limited", "rate_limit", {"retry_after": 120}, 429),
        Failing("server error", "status", {"status": 500}, 502, calls=2),
        Failing("unavailable", "status", {"status": 503}, 502, calls=2),
        Failing("deadline", "status", {"status": 504}, 504, presumed=True),
        Failing("prompt blocked", "moderation", {"stage": "input"}, 400, "moderation_blocked"),
        Failing("image blocked", "moderation", {"stage": "output"}, 400, "moderation_blocked"),
        Failing("image blocked, charged", "moderation", {"stage": "output", "billed": True}, 400, "moderation_blocked"),
        Failing("no image", "", {}, 502, calls=2, asked={"prompt": "a cat finish:NO_IMAGE"}),
        Failing("recitation", "", {}, 400, "moderation_blocked", asked={"prompt": "a cat finish:IMAGE_RECITATION"}),
        Failing("lost answer", "lost_response", {}, 502, presumed=True),
        Failing("half an answer", "half_body", {}, 502, presumed=True),
        Failing("garbage", "garbage", {}, 502, presumed=True),
    ],
    slips=[
        Slip("status", {"status": 500}),
        Slip("status", {"status": 503}),
        Slip("moderation", {"stage": "output"}, status=400),
        Slip("moderation", {"stage": "input", "billed": True}, status=400),
        Slip("rate_limit", {"retry_after": 1}),
    ],
)
