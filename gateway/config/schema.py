"""The closed set of keys of every map in a policy, and the keys that later versions will take."""

from __future__ import annotations

from dataclasses import dataclass

PROVIDER_KINDS = ("openai",)
"""Wire formats that a provider may speak."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys a map takes, and those that are known but not available in this version."""

    known: tuple[str, ...]
    unavailable: tuple[str, ...] = ()


NAMED_SECTIONS = ("models", "providers", "routes", "job_types", "projects")
LIST_SECTIONS = ("budgets", "quotas")
SECTIONS = Keys((*NAMED_SECTIONS, *LIST_SECTIONS), ("passthrough", "tests"))

MODEL = Keys(
    ("snapshot", "retires", "replacement", "capabilities", "output_tokens", "input_image_tokens", "price"),
)
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
PROVIDER = Keys(("kind", "base_url", "api_key", "timeout", "connect_timeout"), ("preset",))
ROUTE = Keys(("provider", "model", "upstream_model", "lane", "capabilities", "price", "limits"))
LIMITS = Keys(("images_per_minute", "images_per_day", "requests_per_minute", "concurrent"))
JOB_TYPE = Keys(
    ("match", "routes", "order", "defaults", "allow", "max_cost_per_image", "retry"),
    ("degrade", "throttled", "experiment", "shadow"),
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
RETRY = Keys(("attempts", "on_unknown"))
PROJECT = Keys(
    (
        "job_types",
        "default_job_type",
        "client_model",
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
    "capabilities": CAPABILITIES,
    "capabilities.sizes": SIZES,
    "output_tokens": OUTPUT_TOKENS,
    "input_image_tokens": INPUT_IMAGE_TOKENS,
    "price[]": PRICE,
    "price[].source": SOURCE,
    "price[].tokens_per_million": TOKENS_PER_MILLION,
    "providers.NAME": PROVIDER,
    "routes.NAME": ROUTE,
    "routes.NAME.limits": LIMITS,
    "job_types.NAME": JOB_TYPE,
    "job_types.NAME.match": MATCH,
    "job_types.NAME.defaults and .allow": JOB_FIELDS,
    "job_types.NAME.retry": RETRY,
    "projects.NAME": PROJECT,
    "projects.NAME.chargeback": CHARGEBACK,
    "projects.NAME.while_ledger_away": WHILE_LEDGER_AWAY,
    "budgets[]": BUDGET,
    "quotas[]": QUOTA,
}
"""Every map by the name under which the reference documents it."""
