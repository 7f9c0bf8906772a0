"""The keys of presets, and of the profile that a provider may give beside or without one."""

from __future__ import annotations

from gateway.config.keys import Keys

PROFILE = (
    "auth",
    "generations",
    "edits",
    "masked_edits",
    "query",
    "send_model",
    "parameters",
    "forms",
    "drop",
    "rename",
    "refuse",
    "prompt_refuses",
    "lacks",
    "reported",
    "blind_usage",
    "normalise",
    "task",
)
"""What presets, and providers beside their preset, say of the wire."""
PRESET = Keys(("kind", *PROFILE))
AUTH = Keys(("header", "prefix"))
REPORTED = Keys(("path", "header", "usd"))
PARAMETER = Keys(
    (
        "name",
        "from",
        "field",
        "value",
        "operations",
        "masked",
        "models",
        "values",
        "closed",
        "among",
        "tiers",
        "number",
        "form",
        "wrap",
        "beside",
    ),
)
