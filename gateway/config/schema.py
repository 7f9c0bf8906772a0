"""The closed set of keys of every map in a policy, and the keys that later versions will take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

PROVIDER_KINDS = ("openai",)
"""Wire formats that a provider may speak."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys a map takes, those not available in this version, and those that belong elsewhere, with where."""

    known: tuple[str, ...]
    unavailable: tuple[str, ...] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)


NAMED_SECTIONS = ("models", "tiers", "providers", "routes", "job_types", "projects")
LIST_SECTIONS = ("budgets", "quotas")
SECTIONS = Keys(
    (*NAMED_SECTIONS, *LIST_SECTIONS),
    ("passthrough",),
    {"tests": "belongs in a file of its own, in a folder named tests beside the policy"},
)

MODEL = Keys(
    (
        "snapshot",
        "retires",
        "replacement",
        "capabilities",
        "output_tokens",
        "input_image_tokens",
        "price",
        "equivalent_quality",
        "legacy",
    ),
)
LEGACY = Keys(("quality", "sizes", "drop", "links", "defaults"))
LEGACY_DEFAULTS = Keys(("quality", "size"))
TIER = Keys(("images_per_minute", "images_per_day", "requests_per_minute", "tokens_per_minute", "concurrent"))
CAPABILITIES = Keys(
    (
        "operations",
        "n",
        "references",
        "mask",
        "transparent",
        "stream",
        "quality",
        "output_formats",
        "sizes",
        "prompt_chars",
    ),
)
SIZES = Keys(("multiple", "max_edge", "min_pixels", "max_pixels", "max_ratio"))
OUTPUT_TOKENS = Keys(("grid", "table", "per_partial_image"))
INPUT_IMAGE_TOKENS = Keys(("max_per_image",))
PRICE = Keys(("from", "source", "tokens_per_million", "per_image", "buckets"))
SOURCE = Keys(("url", "read"))
TOKENS_PER_MILLION = Keys(("text_in", "text_in_cached", "image_in", "image_in_cached", "image_out", "text_out"))
PROVIDER = Keys(("kind", "base_url", "api_key", "timeout", "connect_timeout", "limits"), ("preset",))
ROUTE = Keys(
    (
        "provider",
        "model",
        "upstream_model",
        "lane",
        "capabilities",
        "quality",
        "price",
        "limits",
        "after_retirement",
    ),
)
LIMITS = Keys(("tier", *TIER.known))
JOB_TYPE = Keys(
    (
        "match",
        "routes",
        "order",
        "weights",
        "defaults",
        "allow",
        "max_cost_per_image",
        "degrade",
        "throttled",
        "retry",
        "experiment",
        "shadow",
    ),
)
MATCH = Keys(
    (
        "operation",
        "model",
        "quality",
        "size",
        "background",
        "output_format",
        "mask",
        "stream",
        "n",
        "references",
    ),
)
JOB_FIELDS = Keys(("quality", "size", "background", "output_format"))
DEGRADE = Keys(("budget_used", "set", "order", "route", "routes"))
DEGRADE_SET = Keys(("quality", "size", "n"))
THROTTLED = Keys(("wait", "then"))
RETRY = Keys(("attempts", "on_unknown"))
EXPERIMENT = Keys(("name", "split", "by"))
SHADOW = Keys(("route", "sample", "budget"))
SHADOW_BUDGET = Keys(("window", "limit"))
PROJECT = Keys(
    (
        "job_types",
        "default_job_type",
        "client_model",
        "compatibility",
        "lanes",
        "budgets",
        "quotas",
        "chargeback",
        "while_ledger_away",
    ),
    ("passthrough",),
)
CHARGEBACK = Keys(("multiplier",))
WHILE_LEDGER_AWAY = Keys(("allowance",))
BUDGET = Keys(("window", "limit", "view", "job_type", "key", "route"))
QUOTA = Keys(("images", "requests", "concurrent", "per", "job_type", "key", "route"))

EVERY_MAP = {
    "the top level": SECTIONS,
    "models.NAME": MODEL,
    "models.NAME.legacy": LEGACY,
    "models.NAME.legacy.defaults": LEGACY_DEFAULTS,
    "capabilities": CAPABILITIES,
    "capabilities.sizes": SIZES,
    "output_tokens": OUTPUT_TOKENS,
    "input_image_tokens": INPUT_IMAGE_TOKENS,
    "price[]": PRICE,
    "price[].source": SOURCE,
    "price[].tokens_per_million": TOKENS_PER_MILLION,
    "tiers.NAME": TIER,
    "providers.NAME": PROVIDER,
    "routes.NAME": ROUTE,
    "routes.NAME.limits and providers.NAME.limits": LIMITS,
    "job_types.NAME": JOB_TYPE,
    "job_types.NAME.match": MATCH,
    "job_types.NAME.defaults and .allow": JOB_FIELDS,
    "job_types.NAME.degrade[]": DEGRADE,
    "job_types.NAME.degrade[].set": DEGRADE_SET,
    "job_types.NAME.throttled": THROTTLED,
    "job_types.NAME.retry": RETRY,
    "job_types.NAME.experiment": EXPERIMENT,
    "job_types.NAME.shadow": SHADOW,
    "job_types.NAME.shadow.budget": SHADOW_BUDGET,
    "projects.NAME": PROJECT,
    "projects.NAME.chargeback": CHARGEBACK,
    "projects.NAME.while_ledger_away": WHILE_LEDGER_AWAY,
    "budgets[]": BUDGET,
    "quotas[]": QUOTA,
}
"""Every map by the name under which the reference documents it."""
