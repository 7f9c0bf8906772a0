"""Policies of the end-to-end tests."""

from __future__ import annotations

import re

from gateway.config.shipped import shipped_policies


def lasting(*names: str) -> str:
    """These models as the catalog has them, but for their retirement: tests must not depend on the day they run."""
    catalog = (shipped_policies() / "catalog" / "openai.yaml").read_text()
    blocks = [re.search(rf"^  {re.escape(name)}:\n(?:    .*\n)+", catalog, re.MULTILINE) for name in names]
    text = "".join(block[0] for block in blocks if block)
    return "models:\n" + re.sub(r"^    (retires|replacement|legacy): .*\n", "", text, flags=re.MULTILINE)


PROVIDERS = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: %(timeout)s}
  spare: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: %(timeout)s}
  closed: {kind: openai, base_url: "http://127.0.0.1:9/v1", api_key: "${SANDBOX_KEY}"}
"""

ROUTES = """
routes:
  main/gpt-image-2:
    {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  main/flare:
    {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}
  main/mini:
    {provider: main, model: gpt-image-1-mini, upstream_model: gpt-image-1-mini}
  spare/gpt-image-2:
    {provider: spare, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  closed/gpt-image-2:
    {provider: closed, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
"""

ONE_ACCOUNT = (
    lasting("gpt-image-1-mini")
    + PROVIDERS % {"timeout": "20s"}
    + ROUTES
    + """
job_types:
  draft:
    routes: [main/gpt-image-2, main/flare, main/mini]
  only_main:
    routes: [main/gpt-image-2]
  fallback:
    routes: [main/gpt-image-2, spare/gpt-image-2]
  unreachable_first:
    routes: [closed/gpt-image-2, spare/gpt-image-2]
  narrow:
    routes: [main/gpt-image-2]
    allow: {quality: [low, medium]}
    max_cost_per_image: "0.10"
projects:
  team:
    job_types: [draft, only_main, fallback, unreachable_first, narrow]
    default_job_type: draft
    client_model: honour
    budgets: [{window: day, limit: "1000"}]
    chargeback: {multiplier: "1.15"}
  other:
    job_types: [draft]
    budgets: [{window: month, limit: "1000"}]
budgets: [{window: month, limit: "5000"}]
"""
)


def tight(budget: str, quotas: str = "[]", timeout: str = "20s") -> str:
    """One project, one route, one budget."""
    return (
        PROVIDERS % {"timeout": timeout}
        + ROUTES
        + f"""
job_types:
  draft: {{routes: [main/gpt-image-2], defaults: {{quality: low, size: 1024x1024}}}}
projects:
  team:
    job_types: [draft]
    budgets: [{{window: month, limit: "{budget}"}}]
    quotas: {quotas}
"""
    )
