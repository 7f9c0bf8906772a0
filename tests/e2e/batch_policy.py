"""The policy of the tests of batches: one account that takes them, and job types that differ in what they pay for."""

from __future__ import annotations

POLICY = """
providers:
  main:
    kind: openai
    base_url: "${SANDBOX_URL}/openai/v1"
    api_key: "${SANDBOX_KEY}"
    batch: {poll: 200ms, spare: 1s}
  small:
    kind: openai
    base_url: "${SANDBOX_URL}/openai/v1"
    api_key: "${SANDBOX_KEY}"
    batch: {poll: 200ms, spare: 1s, most_requests: 2, most_bytes: 10000}
  hasty:
    kind: openai
    base_url: "${SANDBOX_URL}/openai/v1"
    api_key: "${SANDBOX_KEY}"
    batch: {poll: 200ms, spare: 10s}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  small: {provider: small, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  hasty: {provider: hasty, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}, batch: {after: 1s, min_wait: 10s}}
  paid: {routes: [main], defaults: {size: 1024x1024, quality: low}, batch: {after: 1s, min_wait: 10s, if_late: send}}
  slow: {routes: [main], defaults: {size: 1024x1024, quality: low}, batch: {after: 1h, requests: 3, min_wait: 2h}}
  small: {routes: [small], defaults: {size: 1024x1024, quality: low}, batch: {after: 1s, min_wait: 10s}}
  late: {routes: [hasty], defaults: {size: 1024x1024, quality: low}, batch: {after: 1s, min_wait: 10s}}
  rescued:
    {routes: [hasty], defaults: {size: 1024x1024, quality: low}, batch: {after: 1s, min_wait: 10s, if_late: send}}
projects:
  team:
    job_types: [draft, paid, slow, small, late, rescued]
    default_job_type: draft
    budgets: [{window: total, limit: "100"}]
"""
