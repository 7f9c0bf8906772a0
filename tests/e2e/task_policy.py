"""The policy of the tests of providers that take work on, each in front of its persona."""

from __future__ import annotations

FAST = "{poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}"
HASTY = "{patience: 1s, poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}"
SELDOM = "{poll: {first: 1h, every: 1h, after: 20s, then: 1h}, patience: 2h}"
"""Only a callback ends a wait in time."""
FAL = f"{FAST[:-1]}, callback: {{keys_url: /.well-known/jwks.json}}}}"
SLOW_FAL = f"{SELDOM[:-1]}, callback: {{keys_url: /.well-known/jwks.json}}}}"

POLICY = f"""
egress: {{allow: ["127.0.0.0/8"]}}
providers:
  evolink: {{preset: evolink, base_url: "${{SANDBOX_URL}}/evolink/v1", api_key: "${{SANDBOX_KEY}}", task: {FAST}}}
  hasty: {{preset: evolink, base_url: "${{SANDBOX_URL}}/evolink/v1", api_key: "${{SANDBOX_KEY}}", task: {HASTY}}}
  fal: {{preset: fal, base_url: "${{SANDBOX_URL}}/fal", api_key: "${{SANDBOX_KEY}}", task: {FAL}}}
  replicate:
    {{preset: replicate, base_url: "${{SANDBOX_URL}}/replicate/v1", api_key: "${{SANDBOX_KEY}}", task: {FAST}}}
  bfl: {{preset: bfl, base_url: "${{SANDBOX_URL}}/bfl/v1", api_key: "${{SANDBOX_KEY}}", task: {FAST}}}
  slow-evolink:
    {{preset: evolink, base_url: "${{SANDBOX_URL}}/evolink/v1", api_key: "${{SANDBOX_KEY}}", task: {SELDOM}}}
  slow-fal: {{preset: fal, base_url: "${{SANDBOX_URL}}/fal", api_key: "${{SANDBOX_KEY}}", task: {SLOW_FAL}}}
  slow-replicate:
    {{preset: replicate, base_url: "${{SANDBOX_URL}}/replicate/v1", api_key: "${{SANDBOX_KEY}}", task: {SELDOM}}}
  slow-bfl: {{preset: bfl, base_url: "${{SANDBOX_URL}}/bfl/v1", api_key: "${{SANDBOX_KEY}}", task: {SELDOM}}}
  main: {{kind: openai, base_url: "${{SANDBOX_URL}}/openai/v1", api_key: "${{SANDBOX_KEY}}"}}
routes:
  evolink/gpt-image-2: {{provider: evolink, offer: evolink/gpt-image-2}}
  evolink/beta: {{provider: evolink, offer: evolink/gpt-image-2-beta, lane: production}}
  hasty/gpt-image-2: {{provider: hasty, offer: evolink/gpt-image-2}}
  fal/gpt-image-2: {{provider: fal, offer: fal/gpt-image-2}}
  fal/flux-schnell: {{provider: fal, offer: fal/flux-schnell}}
  replicate/flux-1.1-pro: {{provider: replicate, offer: replicate/flux-1.1-pro}}
  replicate/sdxl: {{provider: replicate, offer: replicate/sdxl}}
  bfl/flux-2-pro: {{provider: bfl, model: flux-2-pro}}
  slow-evolink/gpt-image-2: {{provider: slow-evolink, offer: evolink/gpt-image-2}}
  slow-fal/gpt-image-2: {{provider: slow-fal, offer: fal/gpt-image-2}}
  slow-replicate/flux-1.1-pro: {{provider: slow-replicate, offer: replicate/flux-1.1-pro}}
  slow-bfl/flux-2-pro: {{provider: slow-bfl, model: flux-2-pro}}
  main/gpt-image-2: {{provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}}
job_types:
  evolink: {{routes: [evolink/gpt-image-2], defaults: {{quality: low}}}}
  beta: {{routes: [evolink/beta]}}
  hasty: {{routes: [hasty/gpt-image-2], defaults: {{quality: low}}}}
  fal: {{routes: [fal/gpt-image-2], defaults: {{quality: low}}}}
  flux: {{routes: [fal/flux-schnell]}}
  pro: {{routes: [replicate/flux-1.1-pro]}}
  sdxl: {{routes: [replicate/sdxl]}}
  bfl: {{routes: [bfl/flux-2-pro]}}
  slow-evolink: {{routes: [slow-evolink/gpt-image-2], defaults: {{quality: low}}}}
  slow-fal: {{routes: [slow-fal/gpt-image-2], defaults: {{quality: low}}}}
  slow-replicate: {{routes: [slow-replicate/flux-1.1-pro]}}
  slow-bfl: {{routes: [slow-bfl/flux-2-pro]}}
  fallback: {{routes: [evolink/gpt-image-2, main/gpt-image-2], defaults: {{quality: low}}}}
projects:
  team:
    job_types:
      [evolink, beta, hasty, fal, flux, pro, sdxl, bfl, fallback, slow-evolink, slow-fal, slow-replicate, slow-bfl]
    default_job_type: evolink
    budgets: [{{window: day, limit: "1000"}}]
"""
