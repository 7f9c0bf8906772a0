"""Callbacks of a running gateway and URLs that it refuses, through commands, the admin plane and sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import time
from collections.abc import Iterator

import pytest
from standardwebhooks import Webhook

from gateway.ledger.callbacks import RedisCallbacks
from gateway.ledger.names import Names
from gateway.ledger.store import Store, store_url
from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import admin
from tests.e2e.clients import nothing_spent
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.receiver import receiving
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until

SECRETS = [base64.b64encode(b"first" * 8).decode(), "a second secret of some length"]
SIGNED = """
projects:
  signed:
    job_types: [draft]
    budgets: [{window: day, limit: "10"}]
    callbacks: {secrets: ["${FIRST}", "${SECOND}"]}
"""
EGRESS = """
egress: {allow: ["127.0.0.1", "images.internal:8443"]}
"""
POLICY = ONE_ACCOUNT.replace("\nprojects:\n", SIGNED) + EGRESS
MESSAGES = [f"msg_{number:032x}" for number in range(5)]
BODY = b'{"id":"task_1","status":"completed"}'


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that may call this machine."""
    environ = {"FIRST": f"whsec_{SECRETS[0]}", "SECOND": SECRETS[1].replace(" ", "_")}
    with running_gateway(tmp_path_factory.mktemp("gateway"), POLICY, sandbox, environ=environ) as running:
        yield running


def queue(stack: Stack, message: str, url: str, project: str = "team") -> None:
    """Put a message into the gateway's store, as the end of a task does."""

    async def put(address: str) -> None:
        store, names, now = Store(address, deadline=10.0), Names("main"), str(round(time.time() * 1000))
        known = {"project": project, "task": "task_1", "url": url, "body": BODY.decode(), "tries": "0"}
        flat = [each for pair in {**known, "created": now, "token": "", "error": ""}.items() for each in pair]
        await store.execute("HSET", names.callback(message), *flat)
        await store.execute("ZADD", names.callbacks_due, now, message)
        await RedisCallbacks(store, "main").callback_counts()
        await store.aclose()

    with store_url("embedded:", stack.data) as address:
        asyncio.run(put(address))


def secret_of(stack: Stack, project: str) -> subprocess.CompletedProcess[str]:
    """Ask for a project's secret."""
    return stack.command("callbacks", "secret", "--project", project, "--policy", str(stack.policy))


def command(stack: Stack, *arguments: str) -> str:
    """Run `image-gateway callbacks` and return what it prints."""
    done = stack.command("callbacks", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_message_arrives_signed_with_the_secret_that_the_command_shows(stack: Stack) -> None:
    """The receiver verifies it with the project's own secret, and the gateway counts it."""
    with receiving() as receiver:
        queue(stack, MESSAGES[0], f"http://127.0.0.1:{receiver.port}/hook")
        wait_until(lambda: receiver.received, what="the message")
    [(headers, body)] = receiver.received

    assert Webhook(secret_of(stack, "team").stdout.strip()).verify(body, headers)["id"] == "task_1"
    assert (headers["webhook-id"], headers["content-type"], body) == (MESSAGES[0], "application/json", BODY)
    wait_until(lambda: stack.metric("callbacks_total", project="team", result="delivered") == 1)


def test_a_secret_is_shown_only_where_it_is_signed_with(stack: Stack) -> None:
    """A project that is misspelt, or whose secrets policy names, gets an error that says so, and no secret."""
    wrong = secret_of(stack, "taem")
    named = secret_of(stack, "signed")

    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "(did you mean team?)" in " ".join(wrong.stderr.split())
    assert (named.returncode, named.stdout) == (1, "")
    assert "projects.signed.callbacks.secrets" in named.stderr


def test_a_list_of_nothing_says_so(stack: Stack) -> None:
    """Where no message was given up the command says it in words."""
    done = stack.command("callbacks", "list", "--project", "signed")

    assert (done.returncode, done.stdout) == (0, "")
    assert "no callback of project signed was given up" in done.stderr


def test_a_project_with_secrets_signs_with_each_of_them(stack: Stack) -> None:
    """While secrets change, receivers of the old one and of the new one both verify the message."""
    with receiving() as receiver:
        queue(stack, MESSAGES[1], f"http://127.0.0.1:{receiver.port}/hook", project="signed")
        wait_until(lambda: receiver.received, what="the message")
    [(headers, body)] = receiver.received

    assert Webhook(f"whsec_{SECRETS[0]}").verify(body, headers)
    assert Webhook(SECRETS[1].replace(" ", "_").encode()).verify(body, headers)
    assert all(secret not in stack.log.read_text() for secret in SECRETS)


def test_dead_messages_are_listed_and_sent_again(stack: Stack) -> None:
    """A message refused for good is told of by command, admin plane and metric, and revived by either of the first."""
    with receiving() as receiver:
        receiver.status = 410
        for message in (MESSAGES[2], MESSAGES[3]):
            queue(stack, message, f"http://127.0.0.1:{receiver.port}/hook")
        wait_until(lambda: stack.metric("callbacks_dead") == 2, what="the dead")
        listed = json.loads(command(stack, "list", "--json", "--project", "team"))
        told = admin(stack, "callbacks?project=team")
        receiver.status = 204
        command(stack, "retry", MESSAGES[2])
        revived = fetch(f"http://127.0.0.1:{stack.admin_port}/admin/callbacks/{MESSAGES[3]}/retry", method="POST")
        wait_until(lambda: len(receiver.received) == 4, what="the messages again")
        wait_until(lambda: stack.metric("callbacks_dead") == 0)

    assert {row["id"] for row in listed} == {MESSAGES[2], MESSAGES[3]}
    assert {(row["tries"], row["error"], row["project"], row["task"]) for row in listed} == {
        (1, "status 410", "team", "task_1")
    }
    assert (told["dead"], sorted(row["id"] for row in told["data"])) == (2, [MESSAGES[2], MESSAGES[3]])
    assert revived.json == {"id": MESSAGES[3], "status": "waiting"}
    assert stack.command("callbacks", "retry", MESSAGES[2]).returncode == 1
    assert fetch(f"http://127.0.0.1:{stack.admin_port}/admin/callbacks/msg_none/retry", method="POST").status == 404
    assert fetch(f"http://127.0.0.1:{stack.admin_port}/admin/callbacks?limit=x").error["param"] == "limit"
    assert json.loads(command(stack, "list", "--json")) == []


def test_the_gateway_is_not_led_to_its_own_ports(stack: Stack) -> None:
    """Though policy opens this machine, a message to one of the gateway's own ports is a failed try."""
    queue(stack, MESSAGES[4], f"http://127.0.0.1:{stack.admin_port}/metrics")
    marked = f'"callback":"{MESSAGES[4]}"'
    wait_until(lambda: marked in stack.log.read_text(), what="the log's line")

    [line] = [json.loads(line) for line in stack.log.read_text().splitlines() if marked in line][:1]
    assert (line["event"], line["tries"]) == ("call back failed", 1)
    assert line["error"].startswith("own: ")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"image_urls": ["http://169.254.169.254/latest/meta-data/"]}, "image_urls[0]"),
        ({"images": [{"image_url": "http://10.0.0.1/a.png"}]}, "images[0].image_url"),
        ({"images": [{"file_id": "f"}], "mask": {"image_url": "http://[::1]/"}}, "mask.image_url"),
        ({"image_urls": ["https://images.internal/a.png"]}, "image_urls[0]"),
    ],
)
def test_an_image_url_that_leads_inside_costs_nothing(stack: Stack, fields: dict[str, object], param: str) -> None:
    """It is refused with 400 that names the field, before anything is held or sent."""
    with nothing_spent(stack):
        refused = stack.post("/v1/images/edits", {"prompt": "x", **fields})

    assert (refused.status, refused.error["param"], refused.error["code"]) == (400, param, "invalid_value")
