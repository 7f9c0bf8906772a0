"""Responses of the OpenAI persona: whose request the bill names."""

from __future__ import annotations

from typing import Any

import pytest
from openai import OpenAI

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.sandbox.clients import until


@pytest.mark.parametrize("cancelled", [False, True])
def test_work_in_the_background_is_that_of_the_request_which_began_it(cancelled: bool) -> None:
    """On every line of the bill, however it ended: what asked after it, or stopped it, did no work."""
    asked: dict[str, Any] = {"model": "gpt-5.2", "input": "a cat", "tools": [{"type": "image_generation"}]}
    options = SandboxOptions(latency=0, work_seconds=600 if cancelled else 0.03)
    with running_sandbox(options) as sandbox:
        begun = _begun_and_over(sandbox, asked, cancelled=cancelled)
        lines = sandbox.bill()["lines"]
    assert len(lines) == (1 if cancelled else 2)
    assert {line["request"] for line in lines} == {begun}


def _begun_and_over(sandbox: Sandbox, asked: dict[str, Any], *, cancelled: bool) -> str:
    """Return the id of the request that began a response, once that is over."""
    with OpenAI(base_url=sandbox.openai_url, api_key=sandbox.api_key, max_retries=0) as api:
        raw = api.responses.with_raw_response.create(background=True, **asked)
        made = raw.parse()
        if cancelled:
            assert api.responses.cancel(made.id).status == "cancelled"
        else:
            until(lambda: api.responses.retrieve(made.id).status == "completed")
    return str(raw.headers["x-request-id"])
