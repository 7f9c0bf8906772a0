"""The kinds of value that the keys of a task profile take, as JSON Schema says it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config.json_refs import Schema, ref
from gateway.domain.task_profile import Fault, TaskState, Verification

_WORD: Schema = {"type": "string"}
_WORDS: Schema = {"anyOf": [_WORD, {"type": "array", "items": _WORD, "minItems": 1, "uniqueItems": True}]}
_SHORT: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,5}(ms|s|m|h)$"}
_LASTING: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,5}(s|m|h|d)$"}
_SOME: Schema = {"type": "integer", "minimum": 1, "maximum": 1000}
_EXACT: Schema = {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,12})?(/[1-9][0-9]{0,12})?$"}


def _one_of(words: Iterable[str]) -> Schema:
    return {"enum": [str(word) for word in words]}


def _map_of(item: Schema) -> Schema:
    return {"type": "object", "additionalProperties": item}


TASK_KINDS: Mapping[str, Mapping[str, Schema]] = {
    "presets.NAME.task and providers.NAME.task": {
        "id": _WORDS,
        "urls": ref("task.urls and .told"),
        "told": ref("task.urls and .told"),
        "sister_hosts": _WORDS,
        "state": _WORD,
        "states": _map_of(_one_of(TaskState)),
        "progress": _WORD,
        "error": ref("task.error"),
        "faults": _map_of(_one_of(Fault)),
        "fault_words": _map_of(_one_of(Fault)),
        "otherwise": _one_of(Fault),
        "images": _WORDS,
        "usage": _WORD,
        "seconds": _WORD,
        "started": _WORD,
        "submitted_cost": ref("task.submitted_cost"),
        "cancel_method": _one_of(("POST", "PUT", "DELETE")),
        "callback": ref("task.callback"),
        "poll": ref("task.poll"),
        "patience": _LASTING,
        "link_lifetime": _LASTING,
    },
    "task.urls and .told": {"status": _WORD, "result": _WORD, "cancel": _WORD},
    "task.error": {"code": _WORDS, "message": _WORDS},
    "task.submitted_cost": {"path": _WORD, "usd": _EXACT},
    "task.callback": {
        "verify": _one_of(Verification),
        "query": _WORD,
        "keys_url": _WORD,
        "key": _WORD,
        "secret_field": _WORD,
        "signature_header": _WORD,
        "timestamp_header": _WORD,
        "signed_headers": _WORDS,
    },
    "task.poll": {
        **dict.fromkeys(("first", "every", "after", "then"), _SHORT),
        **dict.fromkeys(("at_once", "per_second"), _SOME),
    },
}
