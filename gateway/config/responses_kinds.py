"""The kinds of value that the keys of conversations and of paths that go through take."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.json_refs import Schema, ref
from gateway.domain.passing import METHODS

_NAME: Schema = {"type": "string"}
_NAMES: Schema = {"type": "array", "items": _NAME, "minItems": 1, "uniqueItems": True}
_DECIMAL: Schema = {"type": "string", "pattern": r"^(?:[0-9]+(\.[0-9]+)?)$"}


def _whole(low: int, high: int) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


_RATES = dict.fromkeys(("text_in", "text_in_cached", "text_in_written", "text_out"), _DECIMAL)
_PASSED_TO = [_NAME, ref("passthrough")]
PASSED: Schema = {"anyOf": [*_PASSED_TO, {"type": "array", "items": {"anyOf": _PASSED_TO}}]}
TEXT_MODELS: Schema = {"type": "object", "additionalProperties": ref("text_models.NAME")}
TALK_KINDS: Mapping[str, Mapping[str, Schema]] = {
    "text_models.NAME": {
        "context": _whole(1, 10**8),
        "max_tokens_per_image": _whole(1, 10**6),
        "price": {"type": "array", "items": ref("text_models.NAME.price[]")},
    },
    "text_models.NAME.price[]": {
        "from": {"type": "string", "pattern": "^(?:[0-9]{4}-[0-9]{2}-[0-9]{2})$"},
        "source": ref("price[].source"),
        **_RATES,
        "long_context": ref("text_models.NAME.price[].long_context"),
    },
    "text_models.NAME.price[].long_context": {"above": _whole(1, 10**8), **_RATES},
    "job_types.NAME.responses": {
        "provider": {"anyOf": [_NAME, _NAMES]},
        "models": _NAMES,
        "max_images": _whole(1, 10),
        "max_output_tokens": _whole(16, 10**6),
        "text_only": {"type": "boolean"},
    },
    "passthrough": {
        "provider": _NAME,
        "paths": _NAMES,
        "methods": {"type": "array", "items": {"enum": list(METHODS)}, "minItems": 1, "uniqueItems": True},
        "price_per_request": _DECIMAL,
    },
}
"""By map and key."""
