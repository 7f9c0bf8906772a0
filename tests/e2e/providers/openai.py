"""OpenAI, and Azure OpenAI by both of its paths."""

from __future__ import annotations

from collections.abc import Sequence

from tests.e2e.providers.case import Choices, Failing, Provider, Slip, Sold

_SIZES: Sequence[object] = [
    None,
    "auto",
    "1024x1024",
    "1024x1024",
    "1536x1024",
    "1024x1536",
    "1280x720",
    "3:2",
    "2048x1152",
]
_MORE: Choices = {"n": [None, 1, 1, 2, 3], "output_format": [None, None, "png", "jpeg", "webp"]}
_TWO: Choices = {"size": _SIZES, "quality": [None, "auto", "low", "low", "medium", "high"], **_MORE}
_FLARE: Choices = {"size": _SIZES, "quality": [None, "low", "medium", "high", "xhigh", "max"], **_MORE}

_LOST = [
    Failing("closed at once", "connection_closed", {}, 502, presumed=True),
    Failing("lost answer", "lost_response", {}, 502, presumed=True),
    Failing("half an answer", "half_body", {}, 502, presumed=True),
    Failing("garbage", "garbage", {}, 502, presumed=True),
    Failing("a page with 200", "html", {}, 502, presumed=True),
    Failing("a proxy's 502", "status", {"status": 502, "bare": True}, 502, presumed=True),
    Failing("a proxy's 504", "status", {"status": 504, "bare": True}, 504, presumed=True),
]
_SLIPS = [
    Slip("status", {"status": 500}),
    Slip("status", {"status": 503}),
    Slip("rate_limit", {"retry_after": 1}),
    Slip("moderation", {}, status=400),
    Slip("status", {"status": 400, "type": "invalid_request_error", "code": "invalid_value"}, status=400),
    Slip("wrong_count", fewer=1),
    Slip("slow_body", {"seconds": 0.5}),
    Slip("pad", {"bytes": 2_000_000}),
]

OPENAI = Provider(
    name="openai",
    persona="openai",
    configured="kind: openai",
    at="/openai/v1",
    sold={
        "gpt-image-2": Sold(
            "model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21",
            _TWO,
            "usage",
            edits=3,
            masks=True,
            streams=True,
        ),
        "flare": Sold("model: gpt-image-2.5-flare", _FLARE, "usage", edits=3, masks=True, streams=True),
        "sunburst": Sold("model: gpt-image-2.5-sunburst", _FLARE, "usage", edits=3, masks=True, streams=True),
        "sunburst-2.6": Sold("model: gpt-image-2.6-sunburst", _FLARE, "usage", edits=3, masks=True, streams=True),
    },
    failing=[
        Failing(
            "invalid",
            "status",
            {"status": 400, "message": "bad", "type": "invalid_request_error", "code": "invalid_value"},
            400,
            "invalid_value",
            said="bad",
        ),
        Failing("moderated", "moderation", {"stage": "input"}, 400, "moderation_blocked"),
        Failing("withheld", "moderation", {"stage": "output"}, 400, "moderation_blocked", presumed=True),
        Failing("wrong key", "status", {"status": 401, "code": "invalid_api_key"}, 502),
        Failing("wrong region", "status", {"status": 403}, 502),
        Failing("no such model", "status", {"status": 404, "code": "model_not_found"}, 502),
        Failing("too large", "status", {"status": 413}, 413),
        Failing("rate limited", "rate_limit", {"retry_after": 120}, 429),
        Failing("account spent", "status", {"status": 429, "code": "insufficient_quota"}, 502),
        Failing("server error", "status", {"status": 500}, 502, calls=2),
        Failing("overloaded", "status", {"status": 503}, 502, calls=2),
        *_LOST,
    ],
    slips=_SLIPS,
)


def _azure(name: str) -> Provider:
    return Provider(
        name=name,
        persona="azure",
        configured=f"preset: {name}",
        at="/azure",
        sold={
            "gpt-image-2": Sold(
                "model: gpt-image-2, upstream_model: team-gpt-image-2-2026-04-21",
                _TWO,
                "usage",
                edits=3,
                masks=True,
                streams=True,
            ),
            "flare": Sold(
                "model: gpt-image-2.5-flare, upstream_model: team-gpt-image-2.5-flare",
                _FLARE,
                "usage",
                edits=3,
                masks=True,
                streams=True,
            ),
        },
        failing=[
            Failing("content filter", "moderation", {"stage": "input"}, 400, "moderation_blocked"),
            Failing("invalid", "status", {"status": 400, "message": "bad", "code": "invalid_value"}, 400, said="bad"),
            Failing("wrong key", "status", {"status": 401, "code": "401"}, 502),
            Failing("no deployment", "status", {"status": 404, "code": "DeploymentNotFound"}, 502),
            Failing("rate limited", "rate_limit", {"retry_after": 120}, 429),
            Failing("server error", "status", {"status": 500}, 502, calls=2),
            *_LOST,
        ],
        slips=_SLIPS,
    )


AZURE_V1 = _azure("azure-v1")
AZURE_DEPLOYMENTS = _azure("azure-deployments")
