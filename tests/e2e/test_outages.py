"""The gateway dies, is told to stop, or loses its store while an image is being made: no money is forgotten."""

from __future__ import annotations

import contextlib
import http.server
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.ledger.key_format import new_key
from gateway.ledger.valkey_binary import valkey_binary
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import billed, booked, nano, nothing_held, settled, upstream_id
from tests.e2e.policies import tight
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

PATH = "/v1/images/generations"
BODY = {"prompt": "a lighthouse", "size": "1024x1024", "quality": "low"}
POLICY = tight("100", timeout="60s")


@dataclass
class Caller:
    """One request in a thread of its own."""

    stack: Stack
    replies: list[Reply] = field(default_factory=list)
    errors: list[OSError] = field(default_factory=list)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.stack.key()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        wait_until(self.stack.sandbox.requests, 20, "the request upstream")

    def _run(self) -> None:
        try:
            self.replies.append(self.stack.post(PATH, BODY))
        except OSError as error:
            self.errors.append(error)

    def reply(self) -> Reply:
        """The answer."""
        self.thread.join(timeout=60)
        assert not self.errors, self.errors
        return self.replies[0]


@dataclass
class Valkey:
    """A store of our own, which a test may kill and start again on the same data."""

    home: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"unix://{self.home}/v.sock"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        (self.home / "v.sock").unlink(missing_ok=True)
        options = [
            "--port",
            "0",
            "--unixsocket",
            f"{self.home}/v.sock",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]
        with (self.home / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(valkey_binary()), *options, "--save", "", "--dir", "."], cwd=self.home, stdout=log, stderr=log
            )
        wait_until((self.home / "v.sock").exists, 20, "the store")

    def kill(self) -> None:
        """End it without any warning."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=20)


@pytest.fixture
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A running store in a directory with a short name."""
    store = Valkey(tmp_path_factory.mktemp("v"))
    store.start()
    yield store
    store.kill()


@contextlib.contextmanager
def gateway(home: Path, sandbox: Sandbox, *options: str, store: str | None = None) -> Iterator[Stack]:
    """A gateway with its data in this directory, made if need be."""
    home.mkdir(exist_ok=True)
    environ = {} if store is None else {"IMAGE_GATEWAY_STORE": store, "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4}
    with running_gateway(home, POLICY, sandbox, *options, environ=environ) as stack:
        yield stack


def state(stack: Stack, request_id: str) -> str:
    """How a request's hold stands."""
    return str(stack.record(request_id)["state"])


def readiness(stack: Stack) -> int:
    """What `/readyz` answers."""
    return fetch(f"http://127.0.0.1:{stack.port}/readyz").status


def test_a_killed_gateway_leaves_its_hold_to_the_next_one(tmp_path: Path, sandbox: Sandbox) -> None:
    """SIGKILL while a request is upstream: the restarted gateway books the hold as presumed spent after its lease."""
    sandbox.fault("slow", seconds=3)
    with gateway(tmp_path / "g", sandbox, "--lease", "2") as stack:
        caller = Caller(stack)
        request_id = upstream_id(sandbox)
        stack.stop(signal.SIGKILL)
        caller.thread.join(timeout=30)
        assert caller.errors
    with gateway(tmp_path / "g", sandbox, "--lease", "2") as again:
        wait_until(lambda: state(again, request_id) == "presumed", 30, "the end of the lease")
        settled(again)
        wait_until(lambda: billed(sandbox) > 0, 20, "the bill")
        record, total = again.record(request_id), booked(again)
        worst = nano(record["cost_estimate"]["route"])
        assert total.route == total.unconfirmed == nano(record["cost"]["route"]) == worst >= billed(sandbox) > 0
        assert record["unconfirmed"] is True
        assert again.metric("unconfirmed_total") == 1
        assert len(sandbox.requests()) == 1


def test_a_living_gateway_ends_the_holds_of_a_dead_one(tmp_path: Path, sandbox: Sandbox, valkey: Valkey) -> None:
    """Two gateways on one store, one is killed: the other presumes its hold spent, once, and goes on serving."""
    sandbox.fault("slow", seconds=3)
    lease = ("--lease", "2")
    with (
        gateway(tmp_path / "1", sandbox, *lease, store=valkey.url) as doomed,
        gateway(tmp_path / "2", sandbox, *lease, store=valkey.url) as survivor,
    ):
        caller = Caller(doomed)
        request_id = upstream_id(sandbox)
        assert not nothing_held(survivor)
        doomed.stop(signal.SIGKILL)
        wait_until(lambda: nothing_held(survivor), 30, "the end of the lease")
        caller.thread.join(timeout=30)
        wait_until(lambda: billed(sandbox) > 0, 20, "the bill")
        total = booked(survivor)
        assert (total.requests, total.images) == (1, 0)
        assert total.route == total.unconfirmed >= billed(sandbox)
        assert survivor.metric("unconfirmed_total") == 1
        assert request_id == upstream_id(sandbox)


def test_a_hold_outlives_its_lease_while_its_gateway_lives(tmp_path: Path, sandbox: Sandbox) -> None:
    """A request that takes longer than the lease is renewed, not presumed, and settles at its cost."""
    sandbox.fault("slow", seconds=5)
    with gateway(tmp_path / "g", sandbox, "--lease", "2") as stack:
        reply = Caller(stack).reply()
        settled(stack)
        assert reply.status == 200
        assert state(stack, reply.headers["x-request-id"]) == "settled"
        assert booked(stack).unconfirmed == 0
        assert booked(stack).route == billed(sandbox)


def test_sigterm_finishes_what_runs_and_takes_nothing_new(tmp_path: Path, sandbox: Sandbox) -> None:
    """The running request is answered and settled, a new one is turned away, readiness is gone, exit status 0."""
    sandbox.fault("slow", seconds=4)
    with gateway(tmp_path / "g", sandbox) as stack:
        caller = Caller(stack)
        stack.process.send_signal(signal.SIGTERM)
        turned_away = wait_until(lambda: _turned_away(stack), 10, "the refusal of new work")
        assert turned_away in ("refused", "shutting_down")
        assert caller.reply().status == 200
        assert stack.process.wait(timeout=30) == 0
        request_id = caller.reply().headers["x-request-id"]
    with gateway(tmp_path / "g", sandbox) as again:
        assert state(again, request_id) == "settled"
        assert nothing_held(again)
        assert booked(again).route == billed(sandbox) > 0
        assert len(sandbox.requests()) == 1


def _turned_away(stack: Stack) -> str:
    """How a new request is refused: its error's code, or that nobody listens; empty if it is not."""
    try:
        reply = stack.post(PATH, {"prompt": "late", "n": 0})
    except OSError:
        return "refused"
    return str(reply.error["code"]) if reply.status == 503 else ""


def test_sigterm_past_its_grace_presumes_what_still_runs(tmp_path: Path, sandbox: Sandbox) -> None:
    """A request that outlasts the grace is cut off; its hold is presumed spent before the gateway ends, status 0."""
    sandbox.fault("timeout")
    with gateway(tmp_path / "g", sandbox, "--grace", "1") as stack:
        caller = Caller(stack)
        request_id = upstream_id(sandbox)
        assert stack.stop() == 0
        caller.thread.join(timeout=30)
    with gateway(tmp_path / "g", sandbox) as again:
        assert state(again, request_id) == "presumed"
        assert nothing_held(again)
        assert booked(again).route == booked(again).unconfirmed >= billed(sandbox)


def test_a_lost_store_costs_no_image_and_no_money(tmp_path: Path, sandbox: Sandbox, valkey: Valkey) -> None:
    """The store is killed while a request is upstream: the client gets its image, new requests 503; it settles once."""
    sandbox.fault("slow", seconds=2)
    with gateway(tmp_path / "g", sandbox, "--lease", "60", store=valkey.url) as stack:
        caller = Caller(stack)
        request_id = upstream_id(sandbox)
        valkey.kill()
        reply = caller.reply()
        assert reply.status == 200
        assert reply.json["data"][0]["b64_json"]
        refused = stack.post(PATH, BODY)
        assert (refused.status, refused.error["code"]) == (503, "ledger_unavailable")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        anybody, operator = (fetch(f"http://127.0.0.1:{port}/readyz") for port in (stack.port, stack.admin_port))
        assert (anybody.status, operator.status) == (503, 503)
        assert anybody.error["reasons"] == ["the ledger is not available"]
        assert str(valkey.home) not in anybody.body.decode()
        assert str(valkey.home) in operator.error["reasons"][0], "where it is, and how it fails"
        assert fetch(f"http://127.0.0.1:{stack.port}/healthz").status == 200
        assert len(sandbox.requests()) == 1
        valkey.start()
        wait_until(lambda: readiness(stack) == 200, 30, "readiness")
        wait_until(lambda: nothing_held(stack), 30, "the settlement")
        assert state(stack, request_id) == "settled"
        assert (booked(stack).requests, booked(stack).unconfirmed) == (1, 0)
        assert booked(stack).route == billed(sandbox) > 0
        assert stack.post(PATH, BODY).status == 200
        settled(stack)
        assert booked(stack).route == billed(sandbox)


class Reluctant(http.server.BaseHTTPRequestHandler):
    """A provider that refuses what it is asked, once it is told to."""

    arrived = threading.Event()
    may_answer = threading.Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.arrived.set()
        self.may_answer.wait(timeout=60)
        body = b'{"error": {"message": "no such size", "type": "image_error", "param": "size", "code": "bad_size"}}'
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def reluctant() -> Iterator[str]:
    """Where such a provider listens."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Reluctant) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(timeout=20)


def test_a_void_survives_an_outage_of_the_store_too(
    tmp_path: Path, sandbox: Sandbox, valkey: Valkey, reluctant: str
) -> None:
    """A refusal that comes while the store is away gives its hold back once the store answers again."""
    with gateway(tmp_path / "g", Sandbox(reluctant), "--lease", "60", store=valkey.url) as stack:
        replies: list[Reply] = []
        stack.key()
        thread = threading.Thread(target=lambda: replies.append(stack.post(PATH, BODY)))
        thread.start()
        assert Reluctant.arrived.wait(timeout=30)
        assert not nothing_held(stack)
        valkey.kill()
        Reluctant.may_answer.set()
        thread.join(timeout=30)
        assert (replies[0].status, replies[0].error["code"]) == (400, "bad_size")
        valkey.start()
        wait_until(lambda: readiness(stack) == 200, 30, "readiness")
        settled(stack)
        assert state(stack, replies[0].headers["x-request-id"]) == "void"
        assert booked(stack).route == 0


def test_a_gateway_stopped_while_its_store_is_away_books_at_its_next_start(
    tmp_path: Path, sandbox: Sandbox, valkey: Valkey
) -> None:
    """A settlement that never reached the store is in the journal, and is booked exactly when both are back."""
    sandbox.fault("slow", seconds=2)
    with gateway(tmp_path / "g", sandbox, "--lease", "2", "--grace", "1", store=valkey.url) as stack:
        caller = Caller(stack)
        request_id = upstream_id(sandbox)
        valkey.kill()
        assert caller.reply().status == 200
        stack.stop()
    valkey.start()
    with gateway(tmp_path / "g", sandbox, "--lease", "2", store=valkey.url) as again:
        wait_until(lambda: state(again, request_id) == "settled", 30, "the journal's settlement")
        assert nothing_held(again)
        assert booked(again).route == billed(sandbox) > 0
        assert booked(again).unconfirmed == 0


def test_a_key_that_nobody_can_look_up_is_not_called_wrong(tmp_path: Path, sandbox: Sandbox, valkey: Valkey) -> None:
    """While the store is away a key made elsewhere may be one: an SDK asks again, where a 401 would end it."""
    with running_gateway(tmp_path, POLICY, sandbox, environ={"IMAGE_GATEWAY_STORE": valkey.url}) as stack:
        assert stack.post(PATH, BODY).status == 200
        valkey.kill()
        for key, status, code in ((new_key(), 503, "ledger_unavailable"), ("sk-not-ours", 401, "invalid_api_key")):
            told = fetch(f"{stack.url}/images/generations", body=BODY, headers={"authorization": f"Bearer {key}"})
            assert (told.status, told.error["code"]) == (status, code)
            assert ("retry-after" in told.headers) == (status == 503)
        valkey.start()


def test_a_gateway_does_not_start_without_its_store(tmp_path: Path, sandbox: Sandbox) -> None:
    """One clear line that names the store, and a status that is not 0."""
    missing = f"unix://{tmp_path}/nobody.sock"
    with pytest.raises(AssertionError, match=r"nobody\.sock"), gateway(tmp_path / "g", sandbox, store=missing):
        pass
