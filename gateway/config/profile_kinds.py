"""The kinds of value that the keys of a profile take, as JSON Schema says it."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.config.json_refs import Schema, ref
from gateway.domain.job import Operation
from gateway.domain.profile import ImageForm, Source

PROVIDER_KINDS = ("openai", "task", "gemini")
"""Wire formats that a provider may speak."""
_WORD: Schema = {"type": "string"}
_TRUTH: Schema = {"type": "boolean"}
_NUMBER: Schema = {"type": "integer", "minimum": 0, "maximum": 100}
_ANYTHING: Schema = {}
_PATH: Schema = {"type": "string", "pattern": "^/"}
_EXACT: Schema = {"type": "string", "pattern": r"^[0-9]{1,12}(\.[0-9]{1,12})?(/[1-9][0-9]{0,12})?$"}
_OPERATIONS: Schema = {
    "type": "array",
    "items": {"enum": [str(each) for each in (Operation.GENERATE, Operation.EDIT)]},
    "minItems": 1,
    "uniqueItems": True,
}


def _words(item: Schema = _WORD) -> Schema:
    return {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}


def _map_of(item: Schema) -> Schema:
    return {"type": "object", "additionalProperties": item}


PROFILE: Mapping[str, Schema] = {
    "auth": ref("profile.auth"),
    "generations": _PATH,
    "edits": _PATH,
    "masked_edits": _PATH,
    "query": _map_of(_WORD),
    "send_model": _TRUTH,
    "parameters": {"type": "array", "items": ref("profile.parameters[]")},
    "forms": _OPERATIONS,
    "drop": _words(),
    "rename": _map_of(_WORD),
    "refuse": _map_of(_WORD),
    "prompt_refuses": _map_of(_WORD),
    "lacks": _words({"enum": ["edit", "mask", "stream"]}),
    "reported": ref("profile.reported"),
    "blind_usage": _TRUTH,
    "normalise": _TRUTH,
    "task": ref("presets.NAME.task and providers.NAME.task"),
}

PROFILE_KINDS: Mapping[str, Mapping[str, Schema]] = {
    "presets.NAME": {"kind": {"enum": [*PROVIDER_KINDS]}, **PROFILE},
    "profile.auth": {"header": _WORD, "prefix": _WORD},
    "profile.reported": {"path": _WORD, "header": _WORD, "usd": _EXACT},
    "profile.parameters[]": {
        "name": _WORD,
        "from": {"enum": [str(each) for each in Source if each is not Source.CONSTANT]},
        "field": _WORD,
        "value": _ANYTHING,
        "operations": _OPERATIONS,
        "masked": _TRUTH,
        "models": _words(),
        "values": _map_of(_WORD),
        "closed": _TRUTH,
        "among": _words(),
        "tiers": _map_of({"anyOf": [{"type": "integer", "minimum": 1}, {"const": "any"}]}),
        "number": _NUMBER,
        "form": {"enum": [str(each) for each in ImageForm]},
        "wrap": _WORD,
        "beside": _map_of(_ANYTHING),
    },
}
"""By map; `providers.NAME` takes those of a profile too."""
