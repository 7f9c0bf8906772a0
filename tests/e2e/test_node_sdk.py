"""The unmodified `openai` SDK for Node, through the gateway; skipped where Node or npm or the registry is missing."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.clients import CLIENTS, decoded, nothing_spent, picture
from tests.e2e.stack import Stack, running_gateway
from tests.installing import cached, install

SOURCE = Path(__file__).parent / "node"
INSTALL_SECONDS = 90
NEEDED = 20
"""The oldest major version of Node that the SDK was seen to work with."""


class Client(Protocol):
    """Runs one scenario of `client.mjs`."""

    def __call__(self, scenario: str, *, project: str = "team", key: str = "", request: Any = None) -> Any:
        """Return what the SDK's user sees."""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the client and the SDK, installed from the lock file outside the repository."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are needed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NEEDED:
        pytest.skip(f"node {NEEDED} or newer is needed; this is {version}")
    lock = (SOURCE / "package-lock.json").read_bytes()
    installed = cached(f"node-{hashlib.sha256(lock).hexdigest()[:16]}")
    if not (installed / "node_modules").is_dir():
        _install(npm, installed, tmp_path_factory.mktemp("node"))
    shutil.copy(SOURCE / "client.mjs", installed)
    return installed


def _install(npm: str, target: Path, work: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SOURCE / name, work)
    install([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], work, INSTALL_SECONDS)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(work, target, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, package: Path) -> Iterator[Stack]:
    """A gateway with a project for every kind of refusal."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), CLIENTS, sandbox) as running:
        yield running


@pytest.fixture
def client(stack: Stack, package: Path, tmp_path: Path) -> Client:
    """The SDK with an image and a mask at hand."""
    image, mask = tmp_path / "source.png", tmp_path / "mask.png"
    image.write_bytes(picture(seed=17))
    mask.write_bytes(picture(mode="RGBA"))

    def run(scenario: str, *, project: str = "team", key: str = "", request: Any = None) -> Any:
        environ = {
            **os.environ,
            "BASE_URL": stack.url,
            "API_KEY": key or stack.key(project),
            "REQUEST": json.dumps(request),
        }
        made = subprocess.run(
            ["node", str(package / "client.mjs"), scenario, str(image), str(mask)],
            env=environ, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        return json.loads(made.stdout)

    return run


def test_lock_file_names_no_registry() -> None:
    """The lock file pins by hash and names no address, so that any registry can serve it."""
    lock = (SOURCE / "package-lock.json").read_text()
    assert '"integrity": "sha512-' in lock
    assert "resolved" not in lock
    assert "://" not in lock


def test_generate(client: Client) -> None:
    """n = 4 images of the size asked for, with usage."""
    made = client("generate")["result"]
    assert [decoded(image).size for image in made["images"]] == [(1024, 1024)] * 4
    assert made["usage"]["output_tokens"] == 4 * 196


def test_edit_from_a_stream(client: Client, stack: Stack) -> None:
    """A file read as a stream, sent chunked, arrives whole."""
    made = client("edit")["result"]
    [file] = stack.sandbox.requests()[0]["files"]
    assert decoded(made["images"][0]).format == "PNG"
    assert (file["field"], file["filename"], file["bytes"]) == ("image", "source.png", len(picture(seed=17)))


def test_edit_with_several_images_and_a_mask(client: Client, stack: Stack) -> None:
    """Images by stream and by toFile, and a mask, arrive in their order with their names."""
    made = client("edit_several")["result"]
    arrived = stack.sandbox.requests()[0]
    assert len(made["images"]) == 2
    assert [file["filename"] for file in arrived["files"]] == ["first.png", "second.png", "source.png", "mask.png"]
    assert [file["field"] for file in arrived["files"]] == ["image", "image", "image", "mask"]
    assert arrived["fields"]["n"] == 2


@pytest.mark.parametrize(
    ("scenario", "types"),
    [
        ("stream", ["image_generation.partial_image"] * 2 + ["image_generation.completed"]),
        ("stream_edit", ["image_edit.partial_image", "image_edit.completed"]),
    ],
)
def test_stream(client: Client, scenario: str, types: list[str]) -> None:
    """Events come in their order, each with an image, the last with usage."""
    events = client(scenario)["result"]
    assert [event["type"] for event in events] == types
    assert [event["index"] for event in events[:-1]] == list(range(len(types) - 1))
    assert all(decoded(event["image"]).size == (1024, 1024) for event in events)
    assert events[-1]["usage"]["output_tokens"] == 196 + 100 * (len(types) - 1)


def test_models(client: Client) -> None:
    """Models and job types are listed, and found by name."""
    seen = client("models")["result"]
    assert {"gpt-image-2", "job:draft"} <= set(seen["listed"])
    assert seen["one"] == "job:draft"


def test_headers(client: Client, stack: Stack) -> None:
    """The SDK's request id finds the record, and the cost header tells what it says."""
    seen = client("headers")["result"]
    assert seen["id"] == seen["own"]
    assert stack.record(seen["id"])["cost"]["route"] == seen["cost"] == stack.sandbox.bill()["total_usd"]


@pytest.mark.parametrize(
    ("project", "request_", "expected"),
    [
        ("team", {"n": 11}, ("BadRequestError", 400, "invalid_value", "n")),
        ("poor", {}, ("APIError", 402, "project_spend_limit_exceeded", None)),
        (
            "team",
            {"headers": {"X-Gateway-Job-Type": "hero"}},
            ("PermissionDeniedError", 403, "job_type_not_allowed", "X-Gateway-Job-Type"),
        ),
        ("team", {"model": "nope"}, ("NotFoundError", 404, "model_not_found", "model")),
    ],
    ids=["400", "402", "403", "404"],
)
def test_refused(
    client: Client, stack: Stack, project: str, request_: object, expected: tuple[str, int, str, str | None]
) -> None:
    """The error's class, status, code and param are what the SDK's users branch on; nothing is spent."""
    with nothing_spent(stack):
        error = client("refused", project=project, request=request_)["error"]
    assert (error["name"], error["status"], error["code"], error["param"]) == expected
    assert error["id"].startswith("req_")


def test_wrong_key(client: Client, stack: Stack) -> None:
    """A wrong key is an AuthenticationError."""
    with nothing_spent(stack):
        error = client("refused", key="igw_wrong", request={})["error"]
    assert (error["name"], error["code"]) == ("AuthenticationError", "invalid_api_key")


def test_unknown_outcome_is_not_retried(client: Client, stack: Stack) -> None:
    """Once money may have been spent, the SDK asks exactly once, and the error is an InternalServerError."""
    stack.sandbox.fault("timeout")
    error = client("refused", request={"headers": {"X-Gateway-Job-Type": "hasty"}})["error"]
    assert (error["name"], error["status"], error["code"]) == ("InternalServerError", 504, "upstream_timeout")
    assert len(stack.sandbox.requests()) == 1


def test_rate_limit_is_waited_for(client: Client, stack: Stack) -> None:
    """A 429 with its retry-after is obeyed, and the second attempt has the image."""
    stack.sandbox.fault("rate_limit", retry_after=2)
    made = client("refused", request={"headers": {"X-Gateway-Job-Type": "only_main"}})["result"]
    first, second = stack.sandbox.requests()
    assert len(made["images"]) == 1
    assert second["at"] - first["at"] >= 2


def test_rate_limit_class(client: Client, stack: Stack) -> None:
    """A 429 that is not to be retried any more is a RateLimitError."""
    stack.sandbox.fault("rate_limit", retry_after=0.1, times=None)
    error = client("refused", request={"headers": {"X-Gateway-Job-Type": "only_main"}})["error"]
    assert (error["name"], error["status"], error["code"]) == ("RateLimitError", 429, "rate_limit_exceeded")
    assert len(stack.sandbox.requests()) == 3
