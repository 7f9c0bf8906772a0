"""The policy under which things are killed: money that is ample, money that runs out, and places that are few."""

from __future__ import annotations

TIGHT = 20
"""Job types with a budget of their own, each used up in its turn, so that some limit is always near."""

PROJECTS = ("team", "narrow")


def policy(tight_limit: str = "2") -> str:
    """Two accounts at one provider; `tight_limit` is what each tight job type may spend, in USD."""
    tight = "".join(f"  tight-{i}: {{routes: [one/image, two/image]}}\n" for i in range(TIGHT))
    budgets = "".join(f'      - {{window: total, limit: "{tight_limit}", job_type: tight-{i}}}\n' for i in range(TIGHT))
    names = ", ".join(f"tight-{i}" for i in range(TIGHT))
    return f"""
providers:
  one: {{kind: openai, base_url: "${{UPSTREAM_URL}}", api_key: "${{UPSTREAM_KEY_ONE}}", timeout: 30s}}
  two: {{kind: openai, base_url: "${{UPSTREAM_URL}}", api_key: "${{UPSTREAM_KEY_TWO}}", timeout: 30s}}
routes:
  one/image: {{provider: one, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
  two/image: {{provider: two, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
job_types:
  ample: {{routes: [one/image, two/image]}}
{tight}projects:
  team:
    job_types: [ample, {names}]
    default_job_type: ample
    chargeback: {{multiplier: "1.15"}}
    budgets:
      - {{window: month, limit: "100000"}}
      - {{window: hour, limit: "50000", view: internal}}
{budgets}  narrow:
    job_types: [ample]
    default_job_type: ample
    budgets: [{{window: day, limit: "100000"}}]
    quotas: [{{concurrent: 4}}, {{images: 100000, per: minute}}]
budgets: [{{window: month, limit: "1000000"}}]
"""


POLICY = policy()
