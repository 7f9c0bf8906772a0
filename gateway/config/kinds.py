"""The kind of value that each key of a policy takes, as JSON Schema says it; the readers themselves are stricter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.config.routes import LANES
from gateway.config.schema import EVERY_MAP, PROVIDER_KINDS
from gateway.config.values import NAME
from gateway.domain.budget import View, Window
from gateway.domain.job import Operation
from gateway.domain.policy import ClientModel, OnUnknown, Order, SplitBy, WhenFull
from gateway.domain.route import AfterRetirement

Schema = dict[str, object]


def _text(pattern: str | None = None) -> Schema:
    return {"type": "string", "pattern": f"^(?:{pattern})$"} if pattern else {"type": "string"}


def _one_of(words: Iterable[str]) -> Schema:
    return {"enum": [str(word) for word in words]}


def _whole(low: int, high: int = 10**9) -> Schema:
    return {"type": "integer", "minimum": low, "maximum": high}


def _listed(item: Schema) -> Schema:
    return {"type": "array", "items": item, "minItems": 1, "uniqueItems": True}


def _one_or_listed(item: Schema) -> Schema:
    return {"anyOf": [item, _listed(item)]}


def _map_of(item: Schema) -> Schema:
    return {"type": "object", "additionalProperties": item}


def _named(map_name: str) -> Schema:
    return {"type": "object", "additionalProperties": ref(map_name), "propertyNames": _NAME}


def _rows(map_name: str) -> Schema:
    return {"type": "array", "items": ref(map_name)}


def ref(map_name: str) -> Schema:
    """Return a reference to the definition of a map."""
    return {"$ref": f"#/$defs/{definition(map_name)}"}


def definition(map_name: str) -> str:
    """Return what a map's definition is called."""
    return re.sub(r"[^A-Za-z_]+", "-", map_name.replace("NAME", "")).strip("-")


_NAME = _text(NAME.pattern)
_WORD = _text()
_TRUTH: Schema = {"type": "boolean"}
_SIZE = _text("[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_SHAPE = _text("[1-9][0-9]{0,4}x[1-9][0-9]{0,4}|[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")
_DECIMAL = _text(r"[0-9]+(\.[0-9]+)?")
_DAY = _text("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = _text("[1-9][0-9]{0,5}(ms|s|m|h)")
_SHARE = _text(r"[0-9]{1,3}(\.[0-9]{1,2})?%")
_BACKGROUND = ("transparent", "opaque")
_MAKES = (Operation.GENERATE, Operation.EDIT)
_RATIO: Schema = {"anyOf": [_whole(1, 1000), _DECIMAL]}
_SIZES: Schema = {"anyOf": [_listed(_SIZE), ref("capabilities.sizes")]}
_PER_IMAGE: Schema = {"anyOf": [_DECIMAL, _map_of(_DECIMAL)]}
_SCOPED: Mapping[str, Schema] = {"job_type": _NAME, "key": _NAME, "route": _NAME}
_TIER: Mapping[str, Schema] = {
    key: _whole(1)
    for key in ("images_per_minute", "images_per_day", "requests_per_minute", "tokens_per_minute", "concurrent")
}
_FIELDS: Mapping[str, Schema] = {
    "quality": _NAME,
    "size": _SHAPE,
    "background": _one_of(_BACKGROUND),
    "output_format": _NAME,
}

KINDS: Mapping[str, Mapping[str, Schema]] = {
    "the top level": {
        "models": _named("models.NAME"),
        "tiers": _named("tiers.NAME"),
        "providers": _named("providers.NAME"),
        "routes": _named("routes.NAME"),
        "job_types": _named("job_types.NAME"),
        "projects": _named("projects.NAME"),
        "budgets": _rows("budgets[]"),
        "quotas": _rows("quotas[]"),
    },
    "models.NAME": {
        "snapshot": _WORD,
        "retires": _DAY,
        "replacement": _NAME,
        "capabilities": {**ref("capabilities"), "required": ["operations", "n", "quality", "output_formats", "sizes"]},
        "output_tokens": ref("output_tokens"),
        "input_image_tokens": ref("input_image_tokens"),
        "price": _rows("price[]"),
        "equivalent_quality": _map_of(_map_of(_NAME)),
        "legacy": ref("models.NAME.legacy"),
    },
    "models.NAME.legacy": {
        "quality": _map_of(_NAME),
        "sizes": _map_of(_SIZE),
        "drop": _listed(_NAME),
        "links": _TRUTH,
        "defaults": ref("models.NAME.legacy.defaults"),
    },
    "models.NAME.legacy.defaults": {"quality": _NAME, "size": _SIZE},
    "capabilities": {
        "operations": _listed(_one_of(Operation)),
        "n": _whole(1, 100),
        "references": _whole(0, 100),
        "mask": _TRUTH,
        "transparent": _TRUTH,
        "stream": _TRUTH,
        "quality": _listed(_NAME),
        "output_formats": _listed(_NAME),
        "sizes": _SIZES,
        "prompt_chars": _whole(1),
    },
    "capabilities.sizes": {
        "multiple": _whole(1, 65_536),
        "max_edge": _whole(1, 65_536),
        "min_pixels": _whole(1),
        "max_pixels": _whole(1),
        "max_ratio": _RATIO,
    },
    "output_tokens": {
        "grid": _map_of(_whole(1, 10**6)),
        "table": _map_of(_map_of(_whole(1, 10**6))),
        "per_partial_image": _whole(0, 10**6),
    },
    "input_image_tokens": {"max_per_image": _whole(1, 10**6)},
    "price[]": {
        "from": _DAY,
        "source": ref("price[].source"),
        "tokens_per_million": ref("price[].tokens_per_million"),
        "per_image": _PER_IMAGE,
        "buckets": _map_of(_whole(1)),
    },
    "price[].source": {"url": _WORD, "read": _DAY},
    "price[].tokens_per_million": dict.fromkeys(EVERY_MAP["price[].tokens_per_million"].known, _DECIMAL),
    "tiers.NAME": _TIER,
    "providers.NAME": {
        "kind": _one_of(PROVIDER_KINDS),
        "base_url": _WORD,
        "api_key": _text(r"\$\{(file:/[^${}]+|[A-Za-z_][A-Za-z0-9_]*)\}"),
        "timeout": _DURATION,
        "connect_timeout": _DURATION,
        "limits": ref("routes.NAME.limits and providers.NAME.limits"),
    },
    "routes.NAME": {
        "provider": _NAME,
        "model": _NAME,
        "upstream_model": _WORD,
        "lane": _one_of(LANES),
        "capabilities": ref("capabilities"),
        "quality": _map_of(_NAME),
        "price": _rows("price[]"),
        "limits": ref("routes.NAME.limits and providers.NAME.limits"),
        "after_retirement": _one_of(AfterRetirement),
    },
    "routes.NAME.limits and providers.NAME.limits": {"tier": _NAME, **_TIER},
    "job_types.NAME": {
        "match": ref("job_types.NAME.match"),
        "routes": _listed(_NAME),
        "order": _one_of(Order),
        "weights": _map_of(_whole(1, 10**6)),
        "defaults": ref("job_types.NAME.defaults and .allow"),
        "allow": {
            "type": "object",
            "properties": {key: _listed(each) for key, each in _FIELDS.items()},
            "additionalProperties": False,
        },
        "max_cost_per_image": _DECIMAL,
        "degrade": _rows("job_types.NAME.degrade[]"),
        "throttled": ref("job_types.NAME.throttled"),
        "retry": ref("job_types.NAME.retry"),
        "experiment": ref("job_types.NAME.experiment"),
        "shadow": ref("job_types.NAME.shadow"),
    },
    "job_types.NAME.match": {
        "operation": _one_or_listed(_one_of(_MAKES)),
        "model": _one_or_listed(_NAME),
        "quality": _one_or_listed(_NAME),
        "size": _one_or_listed({"anyOf": [_SHAPE, {"const": "auto"}]}),
        "background": _one_or_listed(_one_of((*_BACKGROUND, "auto"))),
        "output_format": _one_or_listed(_NAME),
        "mask": _one_or_listed(_TRUTH),
        "stream": _one_or_listed(_TRUTH),
        "n": _one_or_listed(_whole(1, 10)),
        "references": _one_or_listed(_whole(0, 100)),
    },
    "job_types.NAME.defaults and .allow": _FIELDS,
    "job_types.NAME.degrade[]": {
        "budget_used": _SHARE,
        "set": ref("job_types.NAME.degrade[].set"),
        "order": _one_of(Order),
        "route": _NAME,
        "routes": _listed(_NAME),
    },
    "job_types.NAME.degrade[].set": {"quality": _NAME, "size": _SHAPE, "n": _whole(1, 10)},
    "job_types.NAME.throttled": {"wait": _DURATION, "then": _one_of(WhenFull)},
    "job_types.NAME.retry": {"attempts": _whole(1, 10), "on_unknown": _one_of(OnUnknown)},
    "job_types.NAME.experiment": {"name": _NAME, "split": _map_of(_SHARE), "by": _one_of(SplitBy)},
    "job_types.NAME.shadow": {"route": _NAME, "sample": _SHARE, "budget": ref("job_types.NAME.shadow.budget")},
    "job_types.NAME.shadow.budget": {"window": _one_of(Window), "limit": _DECIMAL},
    "projects.NAME": {
        "job_types": _listed(_NAME),
        "default_job_type": _NAME,
        "client_model": _one_of(ClientModel),
        "compatibility": _one_of(("legacy",)),
        "lanes": _listed(_one_of(LANES)),
        "budgets": _rows("budgets[]"),
        "quotas": _rows("quotas[]"),
        "chargeback": ref("projects.NAME.chargeback"),
        "while_ledger_away": ref("projects.NAME.while_ledger_away"),
    },
    "projects.NAME.chargeback": {"multiplier": _DECIMAL},
    "projects.NAME.while_ledger_away": {"allowance": _DECIMAL},
    "budgets[]": {"window": _one_of(Window), "limit": _DECIMAL, "view": _one_of(View), **_SCOPED},
    "quotas[]": {
        **{key: _whole(1) for key in ("images", "requests", "concurrent")},
        "per": _one_of(("second", "minute", "hour", "day")),
        **_SCOPED,
    },
}
"""What each key of each map takes; `allow` has the keys of `defaults`, with lists."""

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "models.NAME": ("capabilities",),
    "input_image_tokens": ("max_per_image",),
    "price[]": ("from",),
    "price[].source": ("url",),
    "price[].tokens_per_million": ("text_in", "image_in", "image_out"),
    "providers.NAME": ("kind", "base_url"),
    "routes.NAME": ("provider", "model"),
    "job_types.NAME": ("routes",),
    "job_types.NAME.degrade[]": ("budget_used",),
    "job_types.NAME.experiment": ("name", "split"),
    "job_types.NAME.shadow": ("route", "sample", "budget"),
    "job_types.NAME.shadow.budget": ("window", "limit"),
    "projects.NAME": ("job_types",),
    "projects.NAME.chargeback": ("multiplier",),
    "projects.NAME.while_ledger_away": ("allowance",),
    "budgets[]": ("window", "limit"),
}
"""Keys that a map cannot do without, wherever it stands."""
