"""The keys that the maps of a policy cannot do without, for the JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "models.NAME": ("capabilities",),
    "input_image_tokens": ("max_per_image",),
    "price[]": ("from",),
    "price[].source": ("url",),
    "price[].tokens_per_million": ("text_in", "image_in", "image_out"),
    "presets.NAME": ("kind",),
    "profile.parameters[]": ("name",),
    "providers.NAME": ("base_url",),
    "price[].per_megapixel": ("more",),
    "offers.NAME": ("model", "price"),
    "routes.NAME": ("provider",),
    "job_types.NAME": ("routes",),
    "job_types.NAME.degrade[]": ("budget_used",),
    "job_types.NAME.experiment": ("name", "split"),
    "job_types.NAME.shadow": ("route", "sample"),
    "job_types.NAME.shadow.budget": ("window", "limit"),
    "text_models.NAME": ("context", "max_tokens_per_image", "price"),
    "text_models.NAME.price[]": ("from", "text_in", "text_out"),
    "text_models.NAME.price[].long_context": ("above", "text_in", "text_out"),
    "job_types.NAME.responses": ("provider", "models", "max_output_tokens"),
    "passthrough": ("provider",),
    "projects.NAME": ("job_types",),
    "projects.NAME.chargeback": ("multiplier",),
    "projects.NAME.while_ledger_away": ("allowance",),
    "projects.NAME.callbacks": ("secrets",),
    "budgets[]": ("window", "limit"),
}
"""Keys that a map cannot do without, wherever it stands."""
