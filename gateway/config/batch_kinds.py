"""What the maps that are about batches take, as JSON Schema says it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.json_refs import Schema, ref
from gateway.domain.batch import IfLate

_TIME: Schema = {"type": "string", "pattern": "^(?:[1-9][0-9]{0,5}(ms|s|m|h|d))$"}
_PATH: Schema = {"type": "string", "pattern": "^(?:/.*)$"}

BATCH_KINDS: Mapping[str, Mapping[str, Schema]] = {
    "providers.NAME.batch": {
        "window": {"type": "string", "pattern": "^(?:[1-9][0-9]{0,5}(m|h|d))$"},
        "multiplier": {"type": "string", "pattern": r"^(?:[0-9]+(\.[0-9]+)?)$"},
        "endpoints": ref("providers.NAME.batch.endpoints"),
        "poll": {"type": "string", "pattern": "^(?:[1-9][0-9]{0,5}(ms|s|m|h))$"},
        "spare": {"type": "string", "pattern": "^(?:[1-9][0-9]{0,5}(ms|s|m|h))$"},
        "most_requests": {"type": "integer", "minimum": 1, "maximum": 50_000},
        "most_bytes": {"type": "integer", "minimum": 10_000, "maximum": 200_000_000},
    },
    "providers.NAME.batch.endpoints": {"generate": _PATH, "edit": _PATH},
    "job_types.NAME.batch": {
        "after": _TIME,
        "requests": {"type": "integer", "minimum": 1, "maximum": 50_000},
        "if_late": {"enum": [str(word) for word in IfLate]},
        "min_wait": _TIME,
    },
}
