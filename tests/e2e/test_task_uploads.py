"""Input images for providers that take them by URL alone: the gateway keeps them where the provider can fetch them."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from PIL import Image

from gateway.sandbox.client import Sandbox
from tests.e2e import stack as stacks
from tests.e2e.accounting import billed, booked, settled
from tests.e2e.stack import Stack, running_gateway
from tests.ports import free_port

POLICY = """
egress: {allow: ["127.0.0.0/8"]}
providers:
  evolink:
    preset: evolink
    base_url: "${SANDBOX_URL}/evolink/v1"
    api_key: "${SANDBOX_KEY}"
    task: {poll: {first: 50ms, every: 100ms, after: 20s, then: 500ms}}
routes:
  evolink: {provider: evolink, offer: evolink/gpt-image-2}
job_types:
  draft: {routes: [evolink], defaults: {quality: low}}
projects:
  team: {job_types: [draft], budgets: [{window: total, limit: "100"}]}
"""


@pytest.fixture
def public(
    tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    """A gateway that is told its own address, which must be known before it starts."""
    ports = [free_port(), free_port()]
    address = f"http://127.0.0.1:{ports[0]}"
    monkeypatch.setattr(stacks, "free_port", iter(ports).__next__)
    directory = tmp_path_factory.mktemp("uploads")
    with running_gateway(directory, POLICY, sandbox, "--public-url", address) as running:
        yield running


def test_an_uploaded_image_is_fetched_by_the_provider(public: Stack, sandbox: Sandbox) -> None:
    """A form with a file becomes JSON with a link to the gateway, behind which the provider finds the very image."""
    image = io.BytesIO()
    Image.new("RGB", (64, 64), "navy").save(image, "PNG")
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na boat\r\n',
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n',
        image.getvalue(),
        b"\r\n--x--\r\n",
    ]

    headers = {"content-type": "multipart/form-data; boundary=x"}
    reply = public.post("/v1/images/edits", data=b"".join(parts), headers=headers)

    assert reply.status == 200, reply.body
    settled(public)
    assert booked(public).route == billed(sandbox) > 0
