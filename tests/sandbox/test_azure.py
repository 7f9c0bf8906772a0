"""Azure: which deployments there are."""

from __future__ import annotations

import httpx
import pytest

from gateway.sandbox.client import Sandbox
from tests.sandbox.conftest import decode, only_line

ASKED = {"prompt": "cat", "size": "1024x1024", "quality": "low"}


def ask(sandbox: Sandbox, deployment: str, *, by_path: bool) -> httpx.Response:
    """One request for an image of a deployment, named in the path or in the body."""
    place = f"deployments/{deployment}" if by_path else "v1"
    url = f"{sandbox.url}/azure/openai/{place}/images/generations?api-version=2025-04-01-preview"
    body = ASKED if by_path else {**ASKED, "model": deployment}
    return httpx.post(url, json=body, headers={"api-key": sandbox.api_key}, timeout=30)


@pytest.mark.parametrize("by_path", [True, False])
@pytest.mark.parametrize("deployment", ["gpt-image-2", "team-gpt-image-2"])
def test_a_deployment_is_called_as_its_model_or_by_another_name(
    sandbox: Sandbox, deployment: str, by_path: bool
) -> None:
    """Both are there, and the bill names the model."""
    made = ask(sandbox, deployment, by_path=by_path)
    assert made.status_code == 200, made.text
    assert decode(made.json()["data"][0]["b64_json"]).size == (1024, 1024)
    assert only_line(sandbox)["model"] == "gpt-image-2"


@pytest.mark.parametrize("deployment", ["gpt-image-1", "team-gpt-image-1", "ours"])
def test_a_retired_model_has_no_deployment(sandbox: Sandbox, deployment: str) -> None:
    """Nor has a name that nobody gave one."""
    refused = ask(sandbox, deployment, by_path=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "DeploymentNotFound")
