"""What the tests of clients share: a policy that refuses in every way, input images, proof that nothing was spent."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator

from PIL import Image

from tests.e2e.stack import Stack, wait_until

CLIENTS = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 30s}
  hasty: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 1s}
routes:
  main/gpt-image-2: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  main/flare: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare-2026-09-08}
  hasty/gpt-image-2: {provider: hasty, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  trial/gpt-image-2: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2, lane: testing}
job_types:
  draft: {routes: [main/gpt-image-2, main/flare]}
  only_main: {routes: [main/gpt-image-2]}
  hasty: {routes: [hasty/gpt-image-2]}
  trial: {routes: [trial/gpt-image-2]}
  hero: {routes: [main/gpt-image-2]}
projects:
  team:
    job_types: [draft, only_main, hasty]
    default_job_type: draft
    client_model: honour
    budgets: [{window: day, limit: "1000"}]
  other: {job_types: [draft], budgets: [{window: day, limit: "1000"}]}
  tester: {job_types: [trial], lanes: [production, testing], budgets: [{window: day, limit: "1000"}]}
  poor: {job_types: [draft], budgets: [{window: month, limit: "0.0001"}]}
  throttled:
    job_types: [draft]
    budgets: [{window: day, limit: "1000"}]
    quotas: [{images: 1, per: minute}]
budgets: [{window: month, limit: "5000"}]
"""


def picture(width: int = 64, height: int = 64, *, kind: str = "PNG", mode: str = "RGB", seed: int = 90) -> bytes:
    """Return an image file; `seed` is its colour."""
    drawn = io.BytesIO()
    colour = (seed, 120, 200, 0) if mode == "RGBA" else (seed, 120, 200)
    Image.new(mode, (width, height), colour).save(drawn, kind)
    return drawn.getvalue()


def decoded(b64: str | None) -> Image.Image:
    """Decode an image of an answer, every pixel of it."""
    assert b64
    image = Image.open(io.BytesIO(base64.b64decode(b64, validate=True)))
    image.load()
    return image


def money(stack: Stack) -> dict[str, float]:
    """What every budget has used and holds."""
    return {
        name: value
        for name, value in stack.metrics().items()
        if name.startswith(("image_gateway_budget_used_usd", "image_gateway_budget_held_usd"))
    }


@contextlib.contextmanager
def nothing_spent(stack: Stack) -> Iterator[None]:
    """Assert that nothing is held or spent, nothing is sent to the provider, and the gateway serves on."""
    before, arrived = money(stack), len(stack.sandbox.requests())
    assert before
    yield
    assert money(stack) == before
    assert len(stack.sandbox.requests()) == arrived
    assert stack.process.poll() is None


def logged(stack: Stack, request_id: str) -> str:
    """Return the gateway's whole log once the line of this request is in it."""
    wait_until(lambda: f'"request_id":"{request_id}"' in stack.log.read_text(), what="the request's log line")
    return stack.log.read_text()
