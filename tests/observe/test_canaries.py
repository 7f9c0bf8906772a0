"""A run through every kind of path with words that must not come out again, and the search for them everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.ledger.store import store_url
from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.canary import Canaries, Leak
from tests.e2e.receiver import Receiver, receiving
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until
from tests.observe.otlp import Collector, collecting
from tests.sandbox.conftest import png

PROVIDER_KEY = "sk-canaryproviderkey-0b1e55ed"
WRONG_KEY = "igw_canarywrongkey0000000000000000_deadbeefdeadbeefdeadbeefdeadbeef"
PROMPT = "canary-prompt mauve pelican over Xanadu 77120"
USER = "canary-user-ottilie-31337"
HOST = "canary-host-quokka.internal.invalid"
CALLBACK_SECRET = "canarycallbacksecret0123456789abcdefghij"
ADMIN_TOKEN = "canary-admin-token-5e77ed"
PEPPER = "canary-pepper-ab5017e1y-s3cret"
COOKIE = "canary-cookie-value-90210"
BASIC = "Y2FuYXJ5LWJhc2ljLWNyZWRlbnRpYWxz"
LITERAL = "sk-canaryliteralinpolicy-1337"
IMAGE = bytes((n * 73 + 41) % 256 for n in range(48))
HOOK = "canary-hook-path-66a1"

POLICY = """
egress: {allow: ["127.0.0.0/8"]}
text_models:
  gpt-5.2:
    context: 400000
    max_tokens_per_image: 1536
    price: [{from: 2026-01-01, text_in: "1.75", text_in_cached: "0.175", text_out: "14"}]
providers:
  main:
    kind: openai
    base_url: "${SANDBOX_URL}/openai/v1"
    api_key: "${SANDBOX_KEY}"
    timeout: 2s
    trace_context: true
    batch: {poll: 200ms, spare: 1s}
  away: {kind: openai, base_url: "https://canary-host-quokka.internal.invalid/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  mirror: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  away: {provider: away, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}}
  away: {routes: [away], defaults: {size: 1024x1024, quality: low}}
  mirrored:
    routes: [main]
    defaults: {size: 1024x1024, quality: low}
    shadow: {route: mirror, sample: 100%, budget: {window: total, limit: "100"}}
  batched: {routes: [main], defaults: {size: 1024x1024, quality: low}, batch: {after: 1s, min_wait: 10s}}
  talk:
    routes: [main]
    defaults: {size: 1024x1024, quality: low}
    responses: {provider: main, models: [gpt-5.2], max_images: 2, max_output_tokens: 500}
projects:
  team:
    job_types: [draft, away, batched, talk]
    default_job_type: draft
    budgets: [{window: total, limit: "100"}]
    callbacks: {secrets: ["${CALLBACK_SECRET}"]}
  other: {job_types: [draft], budgets: [{window: total, limit: "100"}]}
  keeps: {job_types: [mirrored], budgets: [{window: total, limit: "100"}], images: {store: always}}
"""
IMAGES, EDITS = "/v1/images/generations", "/v1/images/edits"
JOB = {"prompt": PROMPT, "model": "gpt-image-2", "user": USER}
FAULTS = (
    "status",
    "rate_limit",
    "moderation",
    "html",
    "garbage",
    "half_body",
    "reset",
    "timeout",
    "connection_closed",
)
OF_ITS_CLIENT = {"response": ("prompt",)}
"""Answers that tell their own client what it asked for: a response has the prompt that its image was made of."""
AWAITED = ("hook",)
"""Where a callback goes is kept with its task and with the message, until both are forgotten."""


@dataclass
class Run:
    """A gateway after the run: what it told others than whom the words belong to."""

    stack: Stack
    collector: Collector
    canaries: Canaries
    told: list[tuple[str, bytes]] = field(default_factory=list)

    def note(self, where: str, reply: Reply) -> None:
        """Keep what an answer said, headers and all."""
        self.told.append((where, repr(dict(reply.headers)).encode() + b"\n" + reply.body))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A gateway that has been through it, and runs on."""
    options = SandboxOptions(latency=0, api_key=PROVIDER_KEY, batch_seconds=0.5)
    environ = {
        "CALLBACK_SECRET": CALLBACK_SECRET,
        "IMAGE_GATEWAY_ADMIN_TOKEN": ADMIN_TOKEN,
        "IMAGE_GATEWAY_PEPPER": PEPPER,
    }
    folder = tmp_path_factory.mktemp("canaries")
    with collecting() as collector, receiving() as receiver, running_sandbox(options) as sandbox:
        every = {**environ, **collector.environ}
        arguments = ("--tracing", "--log-level", "debug")
        with running_gateway(folder, POLICY, sandbox, *arguments, environ=every) as stack:
            made = Run(stack, collector, canaries_of(stack))
            answer_all_kinds(made, sandbox)
            make_tasks(made, receiver)
            use_the_admin_plane(made)
            yield made


def canaries_of(stack: Stack) -> Canaries:
    """Every word that must not be found."""
    words: dict[str, str | bytes] = {
        "gateway key": stack.key().rpartition("_")[2],
        "provider key": PROVIDER_KEY,
        "wrong key": WRONG_KEY,
        "prompt": PROMPT,
        "user": USER,
        "host": HOST,
        "callback secret": CALLBACK_SECRET,
        "admin token": ADMIN_TOKEN,
        "pepper": PEPPER,
        "cookie": COOKIE,
        "credentials": BASIC,
        "literal": LITERAL,
        "image": IMAGE,
        "hook": HOOK,
    }
    return Canaries(words)


def answer_all_kinds(run: Run, sandbox: Sandbox) -> None:
    """Successes and errors of every kind."""
    stack = run.stack
    carried = {"cookie": f"session={COOKIE}", "x-gateway-tags": "suite=canary"}
    run.note("success", stack.post(IMAGES, JOB, headers=carried))
    run.note("stream", stack.post(IMAGES, {**JOB, "stream": True, "partial_images": 1}))
    run.note("kept", stack.post(IMAGES, JOB, headers={"idempotency-key": "once"}))
    run.note("again", stack.post(IMAGES, JOB, headers={"idempotency-key": "once"}))
    run.note("dry run", stack.post(IMAGES, JOB, headers={"x-gateway-dry-run": "true"}))
    body, kind = form()
    run.note("edit", stack.post(EDITS, data=body, headers={"content-type": kind}))
    sandbox.fault("status", status=500)
    run.note("failed edit", stack.post(EDITS, data=body, headers={"content-type": kind}))
    for fault in FAULTS:
        sandbox.fault(fault)
        run.note(fault, stack.post(IMAGES, JOB))
        for left in sandbox.faults():
            sandbox.remove_fault(left["id"])
    run.note("away", stack.post(IMAGES, {**JOB, "model": "job:away"}))
    run.note("refused", stack.post(IMAGES, {**JOB, "n": "many"}))
    run.note("unknown size", stack.post(IMAGES, {**JOB, "size": "7x7"}))
    run.note("too dear", stack.post(IMAGES, JOB, headers={"x-gateway-max-cost": "0.000001"}))
    run.note("malformed", stack.post(IMAGES, data=json.dumps(JOB).encode()[:-5]))
    run.note("malformed form", stack.post(EDITS, data=body[: len(body) // 2], headers={"content-type": kind}))
    run.note("wrong key", stack.post(IMAGES, JOB, headers={"authorization": f"Bearer {WRONG_KEY}"}))
    run.note("basic", stack.post(IMAGES, JOB, headers={"authorization": f"Basic {BASIC}"}))
    talk = {"model": "gpt-5.2", "input": PROMPT, "user": USER, "tools": [{"type": "image_generation"}]}
    run.note("stored", stack.post(IMAGES, JOB, project="keeps"))
    run.note("response", stack.post("/v1/responses", talk, headers={"x-gateway-job-type": "talk"}))
    run.note("bad response", stack.post("/v1/responses", {**talk, "tools": [{"type": PROMPT}]}))


def make_tasks(run: Run, receiver: Receiver) -> None:
    """Tasks, one that goes by a batch, one that fails, each with a callback."""
    hook = f"http://127.0.0.1:{receiver.port}/{HOOK}"
    later = {"prefer": "respond-async"}
    soon = {**later, "x-gateway-max-wait": "2s"}
    made = [
        run.stack.post(IMAGES, {**JOB, "callback_url": hook}, headers=later),
        run.stack.post(IMAGES, {**JOB, "model": "job:away", "callback_url": hook}, headers=soon),
        run.stack.post(IMAGES, JOB, headers={**later, "x-gateway-job-type": "batched", "x-gateway-max-wait": "1h"}),
    ]
    for reply in made:
        assert reply.status == 202, reply.body
        run.note("task", reply)
        path = f"/v1/tasks/{reply.json['id']}"
        wait_until(lambda path=path: run.stack.get(path).json["status"] in {"completed", "failed"}, 90, path)
    wait_until(lambda: len(receiver.received) >= 2, 60, "the callbacks")


def use_the_admin_plane(run: Run) -> None:
    """The admin plane and the console, policy that does not check included."""
    stack, admin = run.stack, {"authorization": f"Bearer {ADMIN_TOKEN}"}
    base = f"http://127.0.0.1:{stack.admin_port}"
    rules = stack.policy / "policy.yaml"
    good = rules.read_text()
    rules.write_text(good.replace('api_key: "${SANDBOX_KEY}"}', f"api_key: {LITERAL}}}"))
    run.note("reload", fetch(f"{base}/admin/reload", method="POST", headers=admin))
    rules.write_text(good)
    run.note("reloaded", fetch(f"{base}/admin/reload", method="POST", headers=admin))
    question = {"project": "team", "request": JOB}
    run.note("explain", fetch(f"{base}/admin/explain", body=question, headers=admin, method="POST"))
    own = {"x-image-gateway-console": "1", "origin": base}
    wrong = fetch(f"{base}/console/login", body={"token": LITERAL}, headers=own, method="POST")
    run.note("login", wrong)
    for path in ("/metrics", "/admin/spend", "/admin/budgets", "/admin/routes", "/admin/callbacks", "/console"):
        run.note(path, fetch(base + path, headers={**admin, "cookie": f"session={COOKIE}"}))


def form() -> tuple[bytes, str]:
    """An edit with an image that has the pattern in it, as multipart."""
    image, edge = png(64, 64) + IMAGE, b"canaryedge"
    parts = [
        b'Content-Disposition: form-data; name="prompt"\r\n\r\n' + PROMPT.encode(),
        b'Content-Disposition: form-data; name="user"\r\n\r\n' + USER.encode(),
        b'Content-Disposition: form-data; name="model"\r\n\r\ngpt-image-2',
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n' + image,
    ]
    body = b"".join(b"--" + edge + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + edge + b"--\r\n"
    return body, f"multipart/form-data; boundary={edge.decode()}"


def test_logs_hold_none(run: Run) -> None:
    """No line of the log, at its most talkative, holds a canary."""
    assert run.canaries.found("log", run.stack.log.read_bytes()) == []


def test_traces_hold_none(run: Run) -> None:
    """Nothing that was sent to the receiver of traces holds a canary."""
    assert run.collector.named("request")
    assert run.canaries.found("traces", b"\n".join(run.collector.raw)) == []


def test_no_answer_and_no_page_holds_one(run: Run) -> None:
    """No answer, error, metric or page of the console repeats a key, a secret, a prompt, a host or an image."""
    leaks = [
        leak for where, said in run.told for leak in run.canaries.found(where, said, but=OF_ITS_CLIENT.get(where, ()))
    ]

    assert leaks == []


def test_the_store_holds_none(run: Run) -> None:
    """No key or value of the whole store holds a canary, but for where a task's callback is to go."""

    def may(key: str) -> tuple[str, ...]:
        return AWAITED if ":task:" in key or ":callback:" in key else ()

    with store_url("embedded:", run.stack.data) as url:
        assert run.canaries.found_in_store(url, but=may) == []


def test_the_data_directory_holds_none(run: Run) -> None:
    """No file in the data directory, stored images and shadows too, holds one: a task's body is deleted at its end."""

    def may(name: str) -> tuple[str, ...]:
        return AWAITED if name.startswith("appendonlydir/") or name.endswith(".rdb") else ()

    mirrored = wait_until(lambda: list(run.stack.data.rglob("shadow.body")), 60, "what the shadow was answered")
    assert mirrored
    assert [path for path in (run.stack.data / "assets" / "images").rglob("*") if path.is_file()]
    assert run.canaries.found_in_folder(run.stack.data, but=may) == []


def test_commands_print_none(run: Run, tmp_path: Path) -> None:
    """What the commands print, and the files that `ledger export` writes, hold no canary."""
    policy, request, exported = ("--policy", str(run.stack.policy)), tmp_path / "request.json", tmp_path / "exported"
    request.write_text(json.dumps(JOB))
    commands = (
        ("spend", "--format", "json"),
        ("explain", *policy, "--project", "team", str(request)),
        ("replay", *policy),
        ("ledger", "export", "--to", str(exported)),
        ("callbacks", "list"),
    )
    leaks: list[Leak] = []
    for command in commands:
        done = run.stack.command(*command)
        assert done.returncode == 0, (command, done.stderr)
        leaks += run.canaries.found(" ".join(command), done.stdout + done.stderr)
    assert [*leaks, *run.canaries.found_in_folder(exported)] == []
