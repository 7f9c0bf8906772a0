"""EvoLink, main and beta."""

from __future__ import annotations

from tests.e2e.providers.case import Failing, Provider, Slip, Sold

FAST = "task: {poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}"

_WORK = {
    "content_policy_violation": (400, "moderation_blocked", 1),
    "invalid_parameters": (400, "invalid_parameters", 1),
    "image_dimension_mismatch": (400, "image_dimension_mismatch", 1),
    "image_processing_error": (400, "image_processing_error", 1),
    "request_cancelled": (502, None, 1),
    "resource_not_found": (502, None, 1),
    "model_unavailable": (502, None, 1),
    "generation_failed_no_content": (502, None, 2),
    "generation_timeout": (502, None, 2),
    "quota_exceeded": (502, None, 2),
    "resource_exhausted": (502, None, 2),
    "service_error": (502, None, 2),
    "service_unavailable": (502, None, 2),
    "rate_limited": (502, None, 2),
    "upstream_error": (502, None, 2),
    "unknown_error": (502, None, 2),
}

EVOLINK = Provider(
    name="evolink",
    persona="evolink",
    configured=f"preset: evolink, {FAST}",
    at="/evolink/v1",
    sold={
        "gpt-image-2": Sold(
            "offer: evolink/gpt-image-2",
            {
                "size": [None, "auto", "1024x1024", "1024x1024", "1536x1024", "1024x1536", "3:2", "16:9", "1280x720"],
                "quality": [None, "auto", "low", "low", "medium", "high"],
                "n": [None, 1, 1, 2, 3, 4],
            },
            "reported",
            edits=3,
        ),
        "beta": Sold(
            "offer: evolink/gpt-image-2-beta, lane: testing",
            {"size": [None, "1024x1024", "1536x1024", "1024x1536", "2048x1152", "2048x2048", "2880x2880", "3:2"]},
            "reported",
            edits=3,
        ),
    },
    failing=[
        Failing("invalid", "status", {"status": 400, "message": "bad size"}, 400, said="bad size"),
        Failing("moderated", "moderation", {"stage": "input"}, 400, "moderation_blocked"),
        Failing("moderated afterwards", "moderation", {"stage": "output"}, 400, "moderation_blocked"),
        Failing("numbered code", "int_error_code", {}, 400, "400"),
        Failing("no key", "status", {"status": 401}, 502),
        Failing("no credit", "status", {"status": 402}, 502),
        Failing("no access", "status", {"status": 403}, 502),
        Failing("not found", "status", {"status": 404}, 502),
        Failing("too large", "status", {"status": 413}, 413),
        Failing("rate limited", "rate_limit", {"retry_after": 120}, 429),
        Failing("server error", "status", {"status": 500}, 502, calls=2),
        Failing("bad gateway", "status", {"status": 502}, 502, calls=2),
        Failing("unavailable", "status", {"status": 503}, 502, calls=2),
        Failing("lost answer", "lost_response", {}, 502, presumed=True),
        Failing("half an answer", "half_body", {}, 502, presumed=True),
        Failing("garbage", "garbage", {}, 502, presumed=True),
        Failing("dead link", "expired_link", {"status": 403}, 502, said="expired"),
        *(
            Failing(code, "task_error", {"code": code}, status, shown, calls=calls)
            for code, (status, shown, calls) in _WORK.items()
        ),
    ],
    slips=[
        Slip("status", {"status": 503}),
        Slip("task_error", {"code": "upstream_error"}),
        Slip("task_error", {"code": "content_policy_violation"}, status=400),
        Slip("moderation", {"stage": "input"}, status=400),
        Slip("poll_error", {"status": 500}),
        Slip("poll_error", {"status": 404}),
        Slip("unknown_status"),
        Slip("slow_work", {"seconds": 1}),
        Slip("wrong_format"),
    ],
)
