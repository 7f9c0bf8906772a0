"""Words that must not come out again where several gateways share a store and a bucket, and in what a crash prints."""

from __future__ import annotations

import base64
import http.client
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.ledger.embedded import embedded_store
from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.assets.s3_server import BUCKET, CREDENTIALS, S3Server, running_s3
from tests.canary import Canaries, Leak
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until
from tests.observe.test_canaries import (
    EDITS,
    IMAGE,
    IMAGES,
    JOB,
    PEPPER,
    PROMPT,
    PROVIDER_KEY,
    USER,
    form,
)

POLICY = """
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}", timeout: 20s}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  mirror: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft:
    routes: [main]
    defaults: {size: 1024x1024, quality: low}
    cache: 1h
    shadow: {route: mirror, sample: 100%, budget: {window: total, limit: "100"}}
projects:
  team: {job_types: [draft], budgets: [{window: total, limit: "100"}], images: {store: always}}
"""
MADE = "made image"
"""What a provider made belongs into answers, stored images and what shadows are compared by, and nowhere else."""


@dataclass
class Pair:
    """Two gateways on one store and one bucket, and what they said."""

    stacks: tuple[Stack, Stack]
    url: str
    s3: S3Server
    canaries: Canaries
    exported: Path

    def leaks_of(self, *command: str) -> list[Leak]:
        """Run a command; return what it printed that it must not."""
        done = self.stacks[0].command(*command)
        assert done.returncode == 0, (command, done.stderr)
        return self.canaries.found(" ".join(command), done.stdout + done.stderr)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both, after each was asked for what the other then gave."""
    folder = tmp_path_factory.mktemp("pair")
    options = SandboxOptions(latency=0, api_key=PROVIDER_KEY)
    for name in ("first", "second", "store", "bucket"):
        (folder / name).mkdir()
    with (
        embedded_store(folder / "store") as url,
        running_s3(folder / "bucket") as s3,
        running_sandbox(options) as sandbox,
    ):
        environ = {**CREDENTIALS, "IMAGE_GATEWAY_PEPPER": PEPPER, "IMAGE_GATEWAY_STORE": url}
        arguments = ("--assets", s3.url("gateway"), "--log-level", "debug")
        with (
            running_gateway(folder / "first", POLICY, sandbox, *arguments, environ=environ) as first,
            running_gateway(folder / "second", POLICY, sandbox, *arguments, environ=environ) as second,
        ):
            made = ask_both(first, second)
            words = canaries_of(first, {MADE: made, "bucket secret": CREDENTIALS["AWS_SECRET_ACCESS_KEY"]})
            yield Pair((first, second), url, s3, words, folder / "exported")


def canaries_of(stack: Stack, more: dict[str, str | bytes]) -> Canaries:
    """Every word that must not be found."""
    words: dict[str, str | bytes] = {
        "gateway key": stack.key().rpartition("_")[2],
        "provider key": PROVIDER_KEY,
        "pepper": PEPPER,
        "prompt": PROMPT,
        "user": USER,
        "image": IMAGE,
    }
    return Canaries(words | more)


def ask_both(first: Stack, second: Stack) -> bytes:
    """Make at one gateway what the other one tells of; return some bytes of an image that was made."""
    first.key()
    second.keys.update(first.keys)
    once = {"idempotency-key": "once"}
    answered = first.post(IMAGES, JOB, headers=once)
    assert second.post(IMAGES, JOB, headers=once).headers["idempotent-replayed"] == "true"
    body, kind = form()
    assert second.post(EDITS, data=body, headers={"content-type": kind}).status == 200
    assert second.post(IMAGES, {**JOB, "stream": True, "partial_images": 1}).status == 200
    task = first.post(IMAGES, JOB, headers={"prefer": "respond-async"}).json["id"]
    wait_until(lambda: second.get(f"/v1/tasks/{task}").json["status"] == "completed", 60, "the task")
    [asset, *_] = wait_until(lambda: second.get("/v1/assets").json["data"], 60, "stored images")
    assert asset["bytes"]
    stacks = (first, second)
    wait_until(lambda: sum(s.metric("shadow_requests_total") for s in stacks) >= 3, 60, "shadows")
    wait_until(lambda: all(s.metric("in_flight") == 0 and s.held() == 0 for s in stacks), 60, "empty gateways")
    image = base64.b64decode(answered.json["data"][0]["b64_json"])
    return image[len(image) // 2 :][:48]


def test_logs_and_metrics_of_neither_hold_one(pair: Pair) -> None:
    """What one gateway was asked is told by neither of them."""
    for stack in pair.stacks:
        assert pair.canaries.found("log", stack.log.read_bytes()) == []
        for path in ("metrics", "admin/spend", "admin/routes"):
            told = fetch(f"http://127.0.0.1:{stack.admin_port}/{path}")
            assert told.status == 200
            assert pair.canaries.found(path, told.body) == []


def test_the_store_between_them_holds_none(pair: Pair) -> None:
    """What gateways tell each other in the store has no canary."""
    assert pair.canaries.found_in_store(pair.url) == []


def test_the_bucket_holds_images_and_no_words(pair: Pair) -> None:
    """Names, metadata and content of what lies in the bucket have images that were made, and no canary else."""
    assert pair.s3.objects("gateway/images/")
    assert pair.canaries.found_in_folder(pair.s3.folder / BUCKET, but=lambda _: (MADE,)) == []


def test_shadows_hold_answers_and_no_words(pair: Pair) -> None:
    """Answers that are kept to be compared, and all else on a gateway's own disk, have no canary but made images."""

    def may(name: str) -> tuple[str, ...]:
        return (MADE,) if "shadows/" in name else ()

    assert [path for stack in pair.stacks for path in stack.data.rglob("shadow.body")]
    for stack in pair.stacks:
        assert pair.canaries.found_in_folder(stack.data, but=may) == []


def test_what_is_exported_of_both_holds_none(pair: Pair) -> None:
    """`ledger export`, and reports with shadows, tell of both gateways' requests and have no canary."""
    assert pair.leaks_of("ledger", "export", "--to", str(pair.exported)) == []
    assert [path for path in pair.exported.rglob("*") if path.is_file()]
    assert pair.canaries.found_in_folder(pair.exported) == []
    assert pair.leaks_of("spend", "--format", "json", "--shadow") == []


@pytest.fixture
def _no_core() -> Iterator[None]:
    """A process that aborts leaves no core file behind."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    yield
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


@pytest.mark.usefixtures("_no_core")
def streamed(stack: Stack) -> Reply:
    """Ask for a stream; a fault within an event breaks it off."""
    try:
        return stack.post(IMAGES, {**JOB, "stream": True})
    except http.client.IncompleteRead as broken:
        return Reply(200, {}, broken.partial)


def test_a_crash_prints_none(tmp_path: Path) -> None:
    """A mistake of the gateway's own, and what Python prints as it aborts, tell where it was and not of what."""
    (tmp_path / "store").mkdir()
    options = SandboxOptions(latency=0, api_key=PROVIDER_KEY)
    with embedded_store(tmp_path / "store") as url, running_sandbox(options) as sandbox:
        environ = {"IMAGE_GATEWAY_PEPPER": PEPPER, "IMAGE_GATEWAY_STORE": url, "PYTHONFAULTHANDLER": "1"}
        module, arguments = "tests.observe.crashing", ("--log-level", "debug")
        with running_gateway(tmp_path, POLICY, sandbox, *arguments, environ=environ, module=module) as stack:
            canaries = canaries_of(stack, {})
            body, kind = form()
            said = [
                stack.post(IMAGES, JOB),
                streamed(stack),
                stack.post(EDITS, data=body, headers={"content-type": kind}),
            ]
            abort_at_work(stack, sandbox)
            log = stack.log.read_bytes()
            stack.log.write_bytes(b"")  # what Python itself prints is no line of the log's schema
            assert [reply.status for reply in said][::2] == [500, 500]
            for reply in said:
                assert canaries.found("answer", repr(dict(reply.headers)).encode() + reply.body) == []
            for printed in (
                b"Traceback",
                b"a mistake of the gateway's own",
                b"Fatal Python error",
                b"most recent call",
            ):
                assert printed in log
            assert canaries.found("log", log) == []
            assert canaries.found_in_folder(stack.data) == []
        assert canaries.found_in_store(url) == []


def abort_at_work(stack: Stack, sandbox: Sandbox) -> None:
    """Abort the gateway while a provider is at a request of its."""
    sandbox.fault("slow", seconds=30)
    before = len(sandbox.requests())

    def ask() -> None:
        with suppress(OSError):  # nobody answers it
            stack.post(IMAGES, {**JOB, "prompt": f"{PROMPT} again"})  # what was asked for before is in the cache

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: len(sandbox.requests()) > before, 30, "the request upstream")
    assert stack.stop(signal.SIGABRT) == -signal.SIGABRT
    asking.join()
