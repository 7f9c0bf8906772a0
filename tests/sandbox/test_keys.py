"""Keys: any will do unless one was chosen; each provider wants it in its own header and refuses in its own words."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import DEFAULT_KEY
from gateway.sandbox.server import running_sandbox
from tests import processes
from tests.cli.command import environ
from tests.e2e.stack import fetch, wait_until

IMAGE = {"model": "gpt-image-2", "prompt": "a cat", "quality": "low", "size": "1024x1024"}
PLACES = {
    "openai": ("/openai/v1/images/generations", IMAGE, "authorization", "Bearer "),
    "azure": ("/azure/openai/v1/images/generations?api-version=preview", IMAGE, "api-key", ""),
    "evolink": (
        "/evolink/v1/images/generations",
        {"model": "gpt-image-2", "prompt": "a cat"},
        "authorization",
        "Bearer ",
    ),
    "gemini": (
        "/gemini/v1beta/models/gemini-2.5-flash-image:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "a cat"}]}]},
        "x-goog-api-key",
        "",
    ),
    "fal": ("/fal/fal-ai/flux/schnell", {"prompt": "a cat"}, "authorization", "Key "),
    "replicate": (
        "/replicate/v1/models/black-forest-labs/flux-1.1-pro/predictions",
        {"input": {"prompt": "a cat"}},
        "authorization",
        "Bearer ",
    ),
    "bfl": ("/bfl/v1/flux-2-pro", {"prompt": "a cat"}, "x-key", ""),
    "together": ("/likes/together/v1/images/generations", {"model": "m", "prompt": "x"}, "authorization", "Bearer "),
}
REFUSED = {"gemini": {400, 403}, "bfl": {403}}


@pytest.fixture(scope="module")
def anybodys() -> Iterator[Sandbox]:
    """A sandbox for which no key was chosen."""
    with running_sandbox() as sandbox:
        yield sandbox


def ask(sandbox: Sandbox, name: str, key: str | None) -> int:
    """The status of a request with this key, or without any."""
    path, body, header, scheme = PLACES[name]
    headers = {} if key is None else {header: (scheme + key).strip()}
    return httpx.post(sandbox.url + path, json=body, headers=headers, timeout=30).status_code


@pytest.mark.parametrize("name", PLACES)
def test_any_key_is_accepted_unless_one_was_chosen(anybodys: Sandbox, sandbox: Sandbox, name: str) -> None:
    """None and an empty one are refused either way; the key that a `Sandbox` tells is always accepted."""
    refused = REFUSED.get(name, {401})
    for key in ("sk-test-123", DEFAULT_KEY, anybodys.api_key):
        assert ask(anybodys, name, key) not in {400, 401, 403}
    for none in (None, ""):
        assert ask(anybodys, name, none) in refused
        assert ask(sandbox, name, none) in refused
    assert ask(sandbox, name, "sk-test-123") in refused
    assert ask(sandbox, name, sandbox.api_key) not in {400, 401, 403}


@pytest.mark.parametrize(
    ("options", "variables", "said", "status"),
    [
        ((), {}, "any key", 200),
        (("--key", "sk-own"), {}, "the key chosen at the start alone", 401),
        ((), {"IMAGE_GATEWAY_SANDBOX_KEY": "sk-own"}, "the key chosen at the start alone", 401),
    ],
    ids=["any", "by option", "by variable"],
)
def test_the_command_says_which_keys_it_accepts(
    tmp_path: Path, options: tuple[str, ...], variables: dict[str, str], said: str, status: int
) -> None:
    """In its line at the start and on its start page, without the key itself."""
    output = tmp_path / "said.txt"
    with output.open("wb") as file:
        process = processes.start("sandbox", "--port", "0", *options, environ=environ(variables), output=file)
    try:
        wait_until(lambda: "\n" in output.read_text(), 60, "the line that says where it is")
        line = output.read_text()
        found = re.match(r"sandbox: (http://127\.0\.0\.1:\d+) ", line)
        assert found is not None, line
        sandbox = Sandbox(found[1])
        assert said in line
        assert said in fetch(found[1]).json["keys"]
        assert "sk-own" not in line
        assert (ask(sandbox, "openai", "sk-other"), ask(sandbox, "openai", "sk-own")) == (status, 200)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
