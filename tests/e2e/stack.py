"""A gateway process, its sandbox and its data directory, as tests use them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.sandbox.client import Sandbox
from tests import processes
from tests.canary import check_log
from tests.ports import free_port
from tests.processes import Done, Process

CALM = "1"
"""Seconds: a disk that stalls on a busy machine is no outage; what happens in one is tested with the default."""
START_SECONDS = 90.0
MOST_PROMPTS = 50
"""Of those that were sent so many are looked for in the log."""


def wait_until(check: object, seconds: float = 15, what: str = "the condition") -> Any:
    """Call `check` until it returns something true; fails after `seconds`."""
    assert callable(check)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := check():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come true within {seconds} s")


@dataclass
class Reply:
    """An HTTP answer read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of an OpenAI-shaped error body."""
        error = self.json["error"]
        assert {"message", "type", "param", "code"} <= set(error)
        return dict(error)


def fetch(
    url: str,
    *,
    body: object = None,
    data: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    method: str | None = None,
    timeout: float = 60,
) -> Reply:
    """One request over a real socket; `body` is sent as JSON, `data` as it is."""
    sent = json.dumps(body).encode() if body is not None else data
    every = {"content-type": "application/json", **(headers or {})} if sent is not None else dict(headers or {})
    request = urllib.request.Request(url, data=sent, headers=every, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Reply(answer.status, {k.lower(): v for k, v in answer.headers.items()}, answer.read())
    except urllib.error.HTTPError as answer:
        with answer:
            return Reply(answer.code, {k.lower(): v for k, v in answer.headers.items()}, answer.read())


@dataclass
class Stack:
    """What a test sees of a running gateway."""

    port: int
    admin_port: int
    data: Path
    policy: Path
    sandbox: Sandbox
    process: Process
    environ: Mapping[str, str]
    log: Path
    keys: dict[str, str] = field(default_factory=dict)
    prompts: set[str] = field(default_factory=set)
    reloads: int = 0

    @property
    def url(self) -> str:
        """Base URL for OpenAI clients."""
        return f"http://127.0.0.1:{self.port}/v1"

    def command(self, *arguments: str) -> Done:
        """Run `image-gateway` beside the gateway, on the same store."""
        return processes.run(*arguments, environ=self.environ, timeout=60)

    def key(self, project: str = "team") -> str:
        """A key of the project, made once; the admin plane is asked, since a command takes half a second to start."""
        if project not in self.keys:
            headers = {}
            if ours := self.environ.get("IMAGE_GATEWAY_ADMIN_TOKEN"):
                headers["authorization"] = f"Bearer {ours}"
            made = fetch(f"http://127.0.0.1:{self.admin_port}/admin/keys", body={"project": project}, headers=headers)
            assert made.status == 200, made.body
            self.keys[project] = made.json["key"]
        return self.keys[project]

    def post(self, path: str, body: object = None, *, project: str = "team", **options: Any) -> Reply:
        """POST to the data plane with a key."""
        headers = {"authorization": f"Bearer {self.key(project)}", **options.pop("headers", {})}
        if (
            len(self.prompts) < MOST_PROMPTS
            and isinstance(body, dict)
            and isinstance(prompt := body.get("prompt"), str)
        ):
            self.prompts.add(prompt[:1000])
        return fetch(f"http://127.0.0.1:{self.port}{path}", body=body, headers=headers, method="POST", **options)

    def get(self, path: str, *, project: str = "team") -> Reply:
        """GET from the data plane with a key."""
        return fetch(f"http://127.0.0.1:{self.port}{path}", headers={"authorization": f"Bearer {self.key(project)}"})

    def record(self, request_id: str, *, project: str = "team") -> Any:
        """What the gateway tells of a request."""
        return self.get(f"/v1/requests/{request_id}", project=project).json

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, by name and labels."""
        text = fetch(f"http://127.0.0.1:{self.admin_port}/metrics").body.decode()
        samples = re.findall(r"^(image_gateway_[^ ]+) ([^ ]+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in samples}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of a metric that carry these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(
            value
            for sample, value in self.metrics().items()
            if sample.partition("{")[0] == f"image_gateway_{name}" and all(part in sample for part in wanted)
        )

    def spend(self, *arguments: str) -> list[dict[str, Any]]:
        """The spend report as JSON rows."""
        made = self.command("spend", "--format", "json", *arguments)
        assert made.returncode == 0, made.stderr
        rows = json.loads(made.stdout)["rows"]
        assert isinstance(rows, list)
        return rows

    def held(self) -> float:
        """USD held on any budget now."""
        return self.metric("budget_held_usd")

    def forget(self) -> None:
        """Let the gateway forget how its providers were doing: under a policy that changes them they are others."""
        self.reloads += 1

        def changed(match: re.Match[str]) -> str:
            seconds = int(match[2] or 180)
            return f"{match[1]}, timeout: {seconds * 1000 + self.reloads % 1000}ms"

        rules = self.policy / "policy.yaml"
        found = r'(api_key: "\$\{SANDBOX_KEY\}")(?:, timeout: (\d+)(?:s|\d{3}ms))?'
        rules.write_text(re.sub(found, changed, rules.read_text()))
        assert fetch(f"http://127.0.0.1:{self.admin_port}/admin/reload", method="POST").status == 200

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop the gateway and return its exit status."""
        self.process.send_signal(how)
        return self.process.wait(timeout=60)


@contextlib.contextmanager
def running_gateway(
    directory: Path,
    policy: str,
    sandbox: Sandbox,
    *options: str,
    environ: Mapping[str, str] | None = None,
    port: int | None = None,
    module: str = "gateway",
    begun: Callable[[Process], None] = lambda _: None,
) -> Iterator[Stack]:
    """Run a gateway process with this policy text in front of a sandbox; `module` is what Python runs.

    `begun` is called with the process before it serves.
    """
    rules, data, log = directory / "policy", directory / "data", directory / "gateway.log"
    rules.mkdir(exist_ok=True)
    (rules / "policy.yaml").write_text(policy)
    port, admin_port = port or free_port(), free_port()
    every = {
        **os.environ,
        "SANDBOX_URL": sandbox.url,
        "SANDBOX_KEY": sandbox.api_key,
        "IMAGE_GATEWAY_DATA": str(data),
        "IMAGE_GATEWAY_STORE_TIMEOUT": CALM,
        **(environ or {}),
    }
    command = ["serve", "--policy", str(rules), "--port", str(port), "--admin-port", str(admin_port), *options]
    with log.open("wb") as output:
        if module == "gateway":
            process = processes.start(*command, environ=every, output=output)
        else:
            command = [sys.executable, "-m", module, *command]
            process = subprocess.Popen(command, env=every, stdout=output, stderr=output)
    stack = Stack(port, admin_port, data, rules, sandbox, process, every, log)
    try:
        begun(process)
        wait_until(lambda: _is_ready(stack), START_SECONDS, f"readiness ({log.read_text()[-2000:]})")
        yield stack
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    keys = (key.rpartition("_")[2] for key in stack.keys.values())
    check_log(log.read_bytes(), [sandbox.api_key, *keys, *stack.prompts])


def _is_ready(stack: Stack) -> bool:
    if stack.process.poll() is not None:
        raise AssertionError(f"the gateway ended: {stack.log.read_text()[-3000:]}")
    try:
        return fetch(f"http://127.0.0.1:{stack.port}/readyz", timeout=5).status == 200
    except OSError:
        return False
