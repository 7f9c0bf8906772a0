"""The kind of value that each key of a policy takes, as JSON Schema says it; the readers themselves are stricter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config.batch_kinds import BATCH_KINDS
from gateway.config.json_refs import Schema, ref
from gateway.config.profile_kinds import PROFILE, PROFILE_KINDS, PROVIDER_KINDS
from gateway.config.required import REQUIRED as REQUIRED
from gateway.config.responses_kinds import PASSED, TALK_KINDS, TEXT_MODELS
from gateway.config.task_kinds import TASK_KINDS
from gateway.config.values import KEY_ID, LANES, NAME
from gateway.domain.budget import View, Window
from gateway.domain.job import OF_MODELS, Operation
from gateway.domain.policy import ClientModel, OnUnknown, Order, SplitBy, Store, WhenFull
from gateway.domain.price import Bills, Charged
from gateway.domain.route import AfterRetirement


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


_NAME = _text(NAME.pattern)
_WORD = _text()
_TRUTH: Schema = {"type": "boolean"}
_SIZE = _text("[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")
_SHAPE = _text("[1-9][0-9]{0,4}x[1-9][0-9]{0,4}|[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")
_DECIMAL = _text(r"[0-9]+(\.[0-9]+)?")
_DAY = _text("[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DURATION = _text("[1-9][0-9]{0,5}(ms|s|m|h)")
_LASTING = _text("[1-9][0-9]{0,5}(m|h|d)")
_VOLUME = _text("[1-9][0-9]{0,5}(MB|GB|TB)")
_SHARE = _text(r"[0-9]{1,3}(\.[0-9]{1,2})?%")
_SECRET = _text(r"\$\{(file:/[^${}]+|[A-Za-z_][A-Za-z0-9_]*)\}")
_BACKGROUND = ("transparent", "opaque")
_MAKES = (Operation.GENERATE, Operation.EDIT)
_RATIO: Schema = {"anyOf": [_whole(1, 1000), _DECIMAL]}
_SIZES: Schema = {"anyOf": [_listed(_SIZE), ref("capabilities.sizes")]}
_PER_IMAGE: Schema = {"anyOf": [_DECIMAL, _map_of({"anyOf": [_DECIMAL, _map_of(_DECIMAL)]})]}
_COUNT: Schema = {"anyOf": [_whole(1, 10**6), _DECIMAL]}
_SCOPED: Mapping[str, Schema] = {"job_type": _NAME, "key": _text(KEY_ID), "route": _NAME}
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
        "offers": _named("offers.NAME"),
        "tiers": _named("tiers.NAME"),
        "presets": _named("presets.NAME"),
        "text_models": TEXT_MODELS,
        "providers": _named("providers.NAME"),
        "routes": _named("routes.NAME"),
        "job_types": _named("job_types.NAME"),
        "projects": _named("projects.NAME"),
        "budgets": _rows("budgets[]"),
        "quotas": _rows("quotas[]"),
        "egress": ref("egress"),
        "passthrough": PASSED,
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
        "operations": _listed(_one_of(OF_MODELS)),
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
        "ratios": _listed(_text("[1-9][0-9]{0,2}:[1-9][0-9]{0,2}")),
        "resolutions": _map_of(_whole(1)),
    },
    "output_tokens": {
        "grid": _map_of(_whole(1, 10**6)),
        "table": _map_of(_map_of(_whole(1, 10**6))),
        "by_resolution": _map_of(_whole(1, 10**6)),
        "buckets": _map_of(_whole(1)),
        "per_partial_image": _whole(0, 10**6),
        "text": _whole(1, 10**6),
    },
    "input_image_tokens": {"max_per_image": _whole(1, 10**6)},
    "price[]": {
        "from": _DAY,
        "source": ref("price[].source"),
        "tokens_per_million": ref("price[].tokens_per_million"),
        "per_image": _PER_IMAGE,
        "buckets": _map_of(_whole(1)),
        "per_megapixel": ref("price[].per_megapixel"),
        "per_second": _DECIMAL,
        "estimate_seconds": _COUNT,
        "most_seconds": _COUNT,
        "per_unit": _DECIMAL,
        "units_per_image": _COUNT,
        "most_units": _COUNT,
        "per_request": _DECIMAL,
        "free": {"const": True},
        "add_ons": ref("price[].add_ons"),
        "multiplier": _DECIMAL,
        "charged_for": _listed(_one_of(Charged)),
        "bills": _one_of(Bills),
        "reported_unit": _DECIMAL,
    },
    "price[].per_megapixel": {
        **dict.fromkeys(("first", "more", "input"), _DECIMAL),
        "most_input_megapixels": _whole(1, 10**6),
        "megapixel": {"enum": [1_000_000, 1_048_576]},
        "rounding": _one_of(("up", "exact")),
    },
    "price[].add_ons": {"input_image": _DECIMAL, "request": _DECIMAL},
    "offers.NAME": {
        "model": _NAME,
        "upstream_model": _WORD,
        "lane": _one_of(LANES),
        "capabilities": ref("capabilities"),
        "quality": _map_of(_NAME),
        "price": _rows("price[]"),
    },
    "price[].source": {"url": _WORD, "read": _DAY},
    "price[].tokens_per_million": dict.fromkeys(
        ("text_in", "text_in_cached", "image_in", "image_in_cached", "image_out", "text_out"), _DECIMAL
    ),
    "tiers.NAME": _TIER,
    **PROFILE_KINDS,
    "providers.NAME": {
        "kind": _one_of(PROVIDER_KINDS),
        "preset": _NAME,
        "base_url": _WORD,
        "api_key": _SECRET,
        "timeout": _DURATION,
        "connect_timeout": _DURATION,
        "limits": ref("routes.NAME.limits and providers.NAME.limits"),
        "variables": _map_of(_WORD),
        "batch": ref("providers.NAME.batch"),
        "trace_context": _TRUTH,
        **PROFILE,
    },
    **BATCH_KINDS,
    "routes.NAME": {
        "provider": _NAME,
        "offer": _NAME,
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
        "cache": _LASTING,
        "batch": ref("job_types.NAME.batch"),
        "responses": ref("job_types.NAME.responses"),
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
        "asynchronous": _one_of(("always",)),
        "lanes": _listed(_one_of(LANES)),
        "budgets": _rows("budgets[]"),
        "quotas": _rows("quotas[]"),
        "chargeback": ref("projects.NAME.chargeback"),
        "while_ledger_away": ref("projects.NAME.while_ledger_away"),
        "callbacks": ref("projects.NAME.callbacks"),
        "images": ref("projects.NAME.images"),
        "passthrough": PASSED,
    },
    "projects.NAME.chargeback": {"multiplier": _DECIMAL},
    "projects.NAME.while_ledger_away": {"allowance": _DECIMAL},
    "projects.NAME.callbacks": {"secrets": _listed(_SECRET)},
    "projects.NAME.images": {"store": _one_of(Store), "keep": _LASTING, "quota": _VOLUME, "convert": _TRUTH},
    "egress": {"allow": _listed(_WORD)},
    **TASK_KINDS,
    **TALK_KINDS,
    "budgets[]": {"window": _one_of(Window), "limit": _DECIMAL, "view": _one_of(View), **_SCOPED},
    "quotas[]": {
        **{key: _whole(1) for key in ("images", "requests", "concurrent")},
        "per": _one_of(("second", "minute", "hour", "day")),
        **_SCOPED,
    },
}
"""What each key of each map takes; `allow` has the keys of `defaults`, with lists."""
