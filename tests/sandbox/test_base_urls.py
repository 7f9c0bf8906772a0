"""Base URLs: where the API's version is part of a provider's own, the persona answers below its bare name too."""

from __future__ import annotations

import httpx
import pytest

from gateway.sandbox.client import Sandbox

VERSIONS = {"evolink": "/v1", "gemini": "/v1beta", "replicate": "/v1", "bfl": "/v1"}
PATHS = {
    "evolink": "/images/generations",
    "gemini": "/models/gemini-2.5-flash-image:generateContent",
    "replicate": "/models/black-forest-labs/flux-1.1-pro/predictions",
    "bfl": "/flux-2-pro",
}
BODIES: dict[str, dict[str, object]] = {
    "evolink": {"model": "gpt-image-2", "prompt": "cat"},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "cat"}]}]},
    "replicate": {"input": {"prompt": "cat"}},
    "bfl": {"prompt": "cat"},
}
KEY_HEADERS = {"gemini": "x-goog-api-key", "bfl": "x-key"}


@pytest.mark.parametrize("name", PATHS)
def test_the_version_may_be_left_out(sandbox: Sandbox, name: str) -> None:
    """With it and without, the same request is answered alike, needs the same key and is listed as it came."""
    path, body, header = PATHS[name], BODIES[name], KEY_HEADERS.get(name, "authorization")
    key = f"Bearer {sandbox.api_key}" if header == "authorization" else sandbox.api_key
    answers = []
    for root in (f"/{name}{VERSIONS[name]}", f"/{name}"):
        url = f"{sandbox.url}{root}{path}"
        made = httpx.post(url, json=body, headers={header: key}, timeout=30)
        assert made.is_success, made.text
        assert sandbox.requests()[-1]["path"] == f"{root}{path}"
        stranger = httpx.post(url, json=body, headers={header: "Bearer no"}, timeout=30)
        nowhere = httpx.post(f"{sandbox.url}{root}/a/b/c/d", json={}, headers={header: key}, timeout=30)
        answers.append((made.status_code, sorted(made.json()), stranger.status_code, nowhere.status_code))
    assert answers[0] == answers[1]
    assert answers[0][2:] in {(400, 404), (401, 404), (403, 404)}


def test_work_is_asked_after_without_the_version_too(sandbox: Sandbox) -> None:
    """What was begun below the one is found below the other; the URLs that an answer names are the provider's own."""
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    path = "/replicate/models/black-forest-labs/flux-1.1-pro/predictions"
    begun = httpx.post(f"{sandbox.url}{path}", json={"input": {"prompt": "cat"}}, headers=headers).json()
    assert begun["urls"]["get"] == f"{sandbox.url}/replicate/v1/predictions/{begun['id']}"
    for root in ("/replicate", "/replicate/v1"):
        assert httpx.get(f"{sandbox.url}{root}/predictions/{begun['id']}", headers=headers).json()["id"] == begun["id"]
