"""Storages under a gateway: a bucket is as good as a disk, and one that is full, gone or silent harms no request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.images import ImageStore
from gateway.domain.links import Signer
from gateway.images.linking import Linker
from gateway.ports.storage import SLOW, StorageUnavailable
from gateway.sandbox.client import Sandbox
from tests.assets.s3_server import CREDENTIALS, S3Server, running_s3
from tests.e2e.accounting import settled
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}}
  cached: {routes: [main], defaults: {size: 1024x1024, quality: low}, cache: 1h}
projects:
  team: {job_types: [draft, cached], default_job_type: draft, budgets: [{window: total, limit: "1000"}]}
  every: {job_types: [draft], budgets: [{window: total, limit: "1000"}], images: {store: always}}
"""
GENERATE = "/v1/images/generations"
BODY = {"prompt": "a lighthouse", "model": "gpt-image-2"}


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A bucket."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, s3: S3Server) -> Iterator[Stack]:
    """A gateway that keeps everything there."""
    directory, options = tmp_path_factory.mktemp("bucket"), ("--assets", s3.url("gateway"))
    with running_gateway(directory, POLICY, sandbox, *options, environ=CREDENTIALS) as running:
        yield running


def ask(stack: Stack, project: str = "team", headers: dict[str, str] | None = None, **fields: object) -> Reply:
    """Ask for an image."""
    reply = stack.post(GENERATE, {**BODY, **fields}, project=project, headers=headers or {})
    assert reply.status == 200, reply.body
    return reply


def failed(stack: Stack) -> float:
    """How many images could not be stored."""
    return stack.metric("assets_failed_total")


def assert_inline(reply: Reply) -> None:
    """The client has its image, although it asked for a link, and is told."""
    [item] = reply.json["data"]
    assert base64.b64decode(item["b64_json"]).startswith(b"\x89PNG")
    assert reply.headers["x-gateway-not-stored"] == "1"


def test_a_bucket_is_as_good_as_a_disk(stack: Stack, s3: S3Server, sandbox: Sandbox) -> None:
    """Links, parts, lists, answers for repeats, answers of tasks and of the cache: all of it lies there."""
    [item] = ask(stack, response_format="url").json["data"]
    whole = fetch(item["url"])
    assert hashlib.sha256(whole.body).hexdigest() in item["url"]
    assert fetch(item["url"], headers={"range": "bytes=100-199"}).body == whole.body[100:200]
    [listed] = stack.get("/v1/assets").json["data"]
    assert (listed["id"] in item["url"], listed["bytes"]) == (True, len(whole.body))
    first = ask(stack, headers={"idempotency-key": "once"}, prompt="once")
    again = ask(stack, headers={"idempotency-key": "once"}, prompt="once")
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")
    made = stack.post(GENERATE, BODY, headers={"prefer": "respond-async"})

    def over() -> Any:
        told = stack.get(f"/v1/tasks/{made.json['id']}").json
        return told if told["status"] == "completed" else None

    assert fetch(wait_until(over, 60, "the end of the task")["results"][0]).status == 200
    ask(stack, headers={"x-gateway-job-type": "cached"}, prompt="a fox")
    hit = wait_until(
        lambda: "x-gateway-cache" in ask(stack, headers={"x-gateway-job-type": "cached"}, prompt="a fox").headers
    )
    assert hit
    kept = {name.split("/")[1] for name in s3.objects("gateway/")}
    assert kept == {"images", "answers", "records", "cache"}
    assert not [path for path in (stack.data / "assets").rglob("*") if path.is_file()]
    assert fetch(f"http://127.0.0.1:{stack.port}/v1/assets/{listed['id']}", method="DELETE").status == 401
    settled(stack)


def test_a_bucket_that_is_gone_harms_nobody(stack: Stack, s3: S3Server) -> None:
    """Clients get their images inline, told by a header and counted; once it is back there are links again."""
    [item] = ask(stack, response_format="url").json["data"]
    before = failed(stack)
    s3.kill()
    try:
        assert_inline(ask(stack, response_format="url", prompt="gone"))
        assert failed(stack) == before + 1
        inline = ask(stack, "every", prompt="gone too")
        assert base64.b64decode(inline.json["data"][0]["b64_json"])
        wait_until(lambda: failed(stack) == before + 2, 60, "the count")
        asked = ask(stack, "every", response_format="url", prompt="gone a third time")
        assert_inline(asked)
        tried = f"an image of request {asked.headers['x-request-id']} is not kept"
        wait_until(lambda: tried in stack.log.read_text(), 60, "the last try")
        assert failed(stack) == before + 3  # one image, though it was tried for a link and for the store
        ask(stack, headers={"x-gateway-job-type": "cached"}, prompt="a wolf")
        assert stack.metric("cache_total", result="failed") == 1
        ask(stack, headers={"idempotency-key": "gone"}, prompt="a picture that nobody keeps")
        away = fetch(item["url"])
        assert (away.status, away.error["code"]) == (503, "storage_unavailable")
        later = stack.post(GENERATE, BODY, headers={"prefer": "respond-async"})
        assert (later.status, later.error["code"]) == (503, "storage_unavailable")
    finally:
        s3.start()
    assert fetch(item["url"]).status == 200
    [again] = ask(stack, response_format="url").json["data"]
    assert fetch(again["url"]).status == 200
    settled(stack)


@contextmanager
def silence() -> Iterator[str]:
    """An endpoint that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_silent_bucket_holds_no_answer_up(tmp_path: Path, sandbox: Sandbox) -> None:
    """What is stored in passing is stored behind the client's back."""
    with silence() as endpoint:
        options = ("--assets", f"s3://pictures?endpoint={endpoint}&region=eu-1", "--grace", "0")
        with running_gateway(tmp_path, POLICY, sandbox, *options, environ=CREDENTIALS) as stack:
            for _ in range(3):
                assert ask(stack, "every").json["data"][0]["b64_json"]
            settled(stack)


async def test_one_clients_patience_is_for_all_its_images(tmp_path: Path) -> None:
    """Ten images that hang are not waited for ten times as long: the second is not even begun."""
    begun = 0

    async def hanging() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1
        yield b"x"
        await asyncio.Event().wait()

    images = ImageStore(BlobsOnDisk(tmp_path), dict)
    links = Linker(images, Signer(b"secret"), patience=0.5).links_at("team", "")
    for _ in range(10):
        with pytest.raises(StorageUnavailable) as caught:
            await links.keep(hanging())
        assert caught.value.reason == SLOW
    assert begun == 1


def test_a_full_disk_harms_nobody(tmp_path: Path, sandbox: Sandbox) -> None:
    """The image comes inline, the reason is counted, and nothing half stays behind."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("nobody but root may mount a small file system")
    try:
        with running_gateway(tmp_path, POLICY, sandbox, "--assets", str(small)) as stack:
            sandbox.fault("pad", bytes=500_000, times=3)
            assert_inline(ask(stack, response_format="url"))
            assert ask(stack, "every").json["data"]
            wait_until(lambda: stack.metric("assets_failed_total", reason="full") == 2, 30, "the count")
            task = stack.post(GENERATE, BODY, project="every", headers={"prefer": "respond-async"})
            assert task.status == 202, task.body
            tried = f"an image of request {task.json['request_id']} is not kept"
            wait_until(lambda: tried in stack.log.read_text(), 60, "the last try")
            assert stack.metric("assets_failed_total", reason="full") == 3
            assert not list(small.rglob("*.part"))
            assert stack.get("/v1/assets").json["data"] == []
            settled(stack)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


def test_a_place_that_cannot_be_is_refused_at_the_start(stack: Stack) -> None:
    """With a hint, and before anything listens."""
    made = stack.command("serve", "--policy", str(stack.policy), "--assets", "s3://me:hush@pictures")
    assert made.returncode == 2
    assert "AWS_ACCESS_KEY_ID" in made.stderr
    assert "hush" not in made.stderr


@pytest.mark.parametrize("given", [True, False], ids=["given", "by-default"])
def test_a_folder_that_cannot_be_is_refused_at_the_start(stack: Stack, tmp_path: Path, given: bool) -> None:
    """Before anything listens, whether it was named or is the one in the data directory; the line names it."""
    place = tmp_path / "assets"
    place.write_text("not a directory")
    options = ("--assets", str(place)) if given else ()
    nowhere = ("--store", "unix:///nowhere/at/all.sock", "--data", str(tmp_path), "--port", "0", "--admin-port", "0")
    made = stack.command("serve", "--policy", str(stack.policy), *nowhere, *options)
    assert (made.returncode, made.stdout) == (1, "")
    assert made.stderr == f"image-gateway: {'--assets' if given else '--data'}: {place} is no directory\n"
