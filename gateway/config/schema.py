"""The closed set of keys of every map in a policy, and the keys that later versions will take."""

from __future__ import annotations

from gateway.config.batch_keys import BATCH_ENDPOINTS, JOB_TYPE_BATCH, PROVIDER_BATCH
from gateway.config.keys import Keys as Keys
from gateway.config.profile_keys import AUTH, PARAMETER, PRESET, PROFILE, REPORTED
from gateway.config.responses_keys import PASSTHROUGH as PASSTHROUGH
from gateway.config.responses_keys import RESPONSES as RESPONSES
from gateway.config.responses_keys import TALK_MAPS
from gateway.config.responses_keys import TEXT_MODEL as TEXT_MODEL
from gateway.config.responses_keys import TEXT_PRICE as TEXT_PRICE

PROVIDER_KINDS = ("openai", "task", "gemini")
"""Wire formats that a provider may speak."""
RESPONDING_KIND = PROVIDER_KINDS[0]
"""The one that leads conversations, and through which other paths may go."""
BARE_KINDS = frozenset({"gemini"})
"""Those whose wire is code: of a profile they go by `auth` alone."""

BATCH_KIND = "openai"
"""The one whose accounts may take batches."""

NAMED_SECTIONS = ("models", "offers", "tiers", "presets", "text_models", "providers", "routes", "job_types", "projects")
LIST_SECTIONS = ("budgets", "quotas")
MAP_SECTIONS = ("egress", "passthrough")
SECTIONS = Keys(
    (*NAMED_SECTIONS, *LIST_SECTIONS, *MAP_SECTIONS),
    (),
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
SIZES = Keys(("multiple", "max_edge", "min_pixels", "max_pixels", "max_ratio", "ratios", "resolutions"))
OUTPUT_TOKENS = Keys(("grid", "table", "by_resolution", "buckets", "per_partial_image", "text"))
INPUT_IMAGE_TOKENS = Keys(("max_per_image",))
PRICE_SHAPES = (
    "tokens_per_million",
    "per_image",
    "per_megapixel",
    "per_second",
    "per_unit",
    "per_request",
    "free",
)
"""Of which a price row has exactly one."""
PRICE = Keys(
    (
        "from",
        "source",
        "tokens_per_million",
        "per_image",
        "buckets",
        "per_megapixel",
        "per_second",
        "estimate_seconds",
        "most_seconds",
        "per_unit",
        "units_per_image",
        "most_units",
        "per_request",
        "free",
        "add_ons",
        "multiplier",
        "charged_for",
        "bills",
        "reported_unit",
    ),
)
PER_MEGAPIXEL = Keys(("first", "more", "input", "most_input_megapixels", "megapixel", "rounding"))
ADD_ONS = Keys(("input_image", "request"))
OFFER = Keys(("model", "upstream_model", "lane", "capabilities", "quality", "price"))
SOURCE = Keys(("url", "read"))
TOKENS_PER_MILLION = Keys(("text_in", "text_in_cached", "image_in", "image_in_cached", "image_out", "text_out"))
TASK = Keys(
    (
        "id",
        "urls",
        "told",
        "sister_hosts",
        "state",
        "states",
        "progress",
        "error",
        "faults",
        "fault_words",
        "otherwise",
        "images",
        "usage",
        "seconds",
        "started",
        "submitted_cost",
        "cancel_method",
        "callback",
        "poll",
        "patience",
        "link_lifetime",
    ),
)
TASK_URLS = Keys(("status", "result", "cancel"))
TASK_ERROR = Keys(("code", "message"))
TASK_COST = Keys(("path", "usd"))
TASK_CALLBACK = Keys(
    (
        "verify",
        "query",
        "keys_url",
        "key",
        "secret_field",
        "signature_header",
        "timestamp_header",
        "signed_headers",
    ),
)
TASK_POLL = Keys(("first", "every", "after", "then", "at_once", "per_second"))
PROVIDER = Keys(
    (
        "kind",
        "preset",
        "base_url",
        "api_key",
        "timeout",
        "connect_timeout",
        "limits",
        "variables",
        "batch",
        "trace_context",
        *PROFILE,
    )
)
ROUTE = Keys(
    (
        "provider",
        "offer",
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
        "cache",
        "batch",
        "responses",
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
        "asynchronous",
        "lanes",
        "budgets",
        "quotas",
        "chargeback",
        "while_ledger_away",
        "callbacks",
        "images",
        "passthrough",
    ),
)
CHARGEBACK = Keys(("multiplier",))
WHILE_LEDGER_AWAY = Keys(("allowance",))
CALLBACKS = Keys(("secrets",))
IMAGES = Keys(("store", "keep", "quota", "convert"))
EGRESS = Keys(("allow",))
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
    "price[].per_megapixel": PER_MEGAPIXEL,
    "price[].add_ons": ADD_ONS,
    "offers.NAME": OFFER,
    "tiers.NAME": TIER,
    "presets.NAME": PRESET,
    "profile.auth": AUTH,
    "profile.parameters[]": PARAMETER,
    "profile.reported": REPORTED,
    "providers.NAME": PROVIDER,
    "presets.NAME.task and providers.NAME.task": TASK,
    "task.urls and .told": TASK_URLS,
    "task.error": TASK_ERROR,
    "task.submitted_cost": TASK_COST,
    "task.callback": TASK_CALLBACK,
    "task.poll": TASK_POLL,
    "providers.NAME.batch": PROVIDER_BATCH,
    "providers.NAME.batch.endpoints": BATCH_ENDPOINTS,
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
    "job_types.NAME.batch": JOB_TYPE_BATCH,
    "projects.NAME": PROJECT,
    "projects.NAME.chargeback": CHARGEBACK,
    "projects.NAME.while_ledger_away": WHILE_LEDGER_AWAY,
    "projects.NAME.callbacks": CALLBACKS,
    "projects.NAME.images": IMAGES,
    "budgets[]": BUDGET,
    "quotas[]": QUOTA,
    "egress": EGRESS,
    **TALK_MAPS,
}
"""Every map by the name under which the reference documents it."""
