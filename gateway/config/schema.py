"""The closed set of keys of every map in a policy: those of `kinds`, under the names by which readers ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.config.kinds import KINDS
from gateway.config.profile_kinds import PROFILE as PROFILE
from gateway.config.profile_kinds import PROVIDER_KINDS as PROVIDER_KINDS

RESPONDING_KIND = PROVIDER_KINDS[0]
"""The one that leads conversations, and through which other paths may go."""
BARE_KINDS = frozenset({"gemini"})
"""Those whose wire is code: of a profile they go by `auth` alone."""
BATCH_KIND = "openai"
"""The one whose accounts may take batches."""

PRICE_SHAPES = (*("tokens_per_million", "per_image", "per_megapixel", "per_second", "per_unit", "per_request", "free"),)
"""Of which a price row has exactly one."""
LIST_SECTIONS = ("budgets", "quotas")
MAP_SECTIONS = ("egress", "passthrough")
NAMED_SECTIONS = tuple(name for name in KINDS["the top level"] if name not in (*LIST_SECTIONS, *MAP_SECTIONS))


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys a map takes, and those that belong elsewhere, with where."""

    known: tuple[str, ...]
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    example: str = ""
    """How such a map is written, for whoever gave a plain value in its place."""


def _keys(name: str, example: str = "") -> Keys:
    return Keys(tuple(KINDS[name]), example=example)


SECTIONS = Keys(
    tuple(KINDS["the top level"]), {"tests": "belongs in a file of its own, in a folder named tests beside the policy"}
)
MODEL = _keys("models.NAME")
LEGACY = _keys("models.NAME.legacy")
LEGACY_DEFAULTS = _keys("models.NAME.legacy.defaults")
CAPABILITIES = _keys("capabilities")
SIZES = _keys("capabilities.sizes")
OUTPUT_TOKENS = _keys("output_tokens")
INPUT_IMAGE_TOKENS = _keys("input_image_tokens")
PRICE = _keys("price[]")
SOURCE = _keys("price[].source")
TOKENS_PER_MILLION = _keys("price[].tokens_per_million")
PER_MEGAPIXEL = _keys("price[].per_megapixel")
ADD_ONS = _keys("price[].add_ons")
OFFER = _keys("offers.NAME")
TIER = _keys("tiers.NAME")
PRESET = _keys("presets.NAME")
AUTH = _keys("profile.auth")
PARAMETER = _keys("profile.parameters[]")
REPORTED = _keys("profile.reported")
PROVIDER = _keys("providers.NAME")
TASK = _keys("presets.NAME.task and providers.NAME.task")
TASK_URLS = _keys("task.urls and .told")
TASK_ERROR = _keys("task.error")
TASK_COST = _keys("task.submitted_cost")
TASK_CALLBACK = _keys("task.callback")
TASK_POLL = _keys("task.poll")
PROVIDER_BATCH = _keys("providers.NAME.batch")
BATCH_ENDPOINTS = _keys("providers.NAME.batch.endpoints")
ROUTE = _keys("routes.NAME")
LIMITS = _keys("routes.NAME.limits and providers.NAME.limits", "{tier: NAME}")
JOB_TYPE = _keys("job_types.NAME")
MATCH = _keys("job_types.NAME.match", "{operation: edit}")
JOB_FIELDS = _keys("job_types.NAME.defaults and .allow")
DEGRADE = _keys("job_types.NAME.degrade[]")
DEGRADE_SET = _keys("job_types.NAME.degrade[].set")
THROTTLED = _keys("job_types.NAME.throttled", "{wait: 20s}")
RETRY = _keys("job_types.NAME.retry", "{attempts: 3}")
EXPERIMENT = _keys("job_types.NAME.experiment")
SHADOW = _keys("job_types.NAME.shadow")
SHADOW_BUDGET = _keys("job_types.NAME.shadow.budget")
JOB_TYPE_BATCH = _keys("job_types.NAME.batch")
PROJECT = _keys("projects.NAME")
CHARGEBACK = _keys("projects.NAME.chargeback", '{multiplier: "1.2"}')
WHILE_LEDGER_AWAY = _keys("projects.NAME.while_ledger_away", '{allowance: "2.50"}')
CALLBACKS = _keys("projects.NAME.callbacks")
IMAGES = _keys("projects.NAME.images", "{keep: 7d}")
BUDGET = _keys("budgets[]", '{window: day, limit: "50"}')
QUOTA = _keys("quotas[]", "{concurrent: 8}")
EGRESS = _keys("egress")
TEXT_MODEL = _keys("text_models.NAME")
TEXT_PRICE = _keys("text_models.NAME.price[]")
LONG_CONTEXT = _keys("text_models.NAME.price[].long_context")
RESPONSES = _keys("job_types.NAME.responses")
PASSTHROUGH = _keys("passthrough", "{provider: NAME, paths: [/v1/files]}")

EVERY_MAP = {name: _keys(name) for name in KINDS} | {"the top level": SECTIONS}
"""Every map by the name under which the reference documents it."""
