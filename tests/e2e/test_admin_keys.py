"""Keys on the admin plane: listed, made, replaced and ended, each of use to the real client at once."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway.admin.keys import KeyAdministration, key_views
from gateway.domain.policy import Policy
from gateway.ledger.embedded import embedded_store
from gateway.ledger.keys import Keys
from gateway.process.app import Settings, running_application
from gateway.sandbox.client import Sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until
from tests.e2e.test_outages import Valkey
from tests.observe.log_schema import wrong

TOKEN = "the token of an admin plane"
SHOWN = {"id", "project", "name", "job_type", "state", "created", "revoked", "expires"}


@pytest.fixture(scope="module", params=[1, 2], ids=["one process", "two workers"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox
) -> Iterator[Stack]:
    """A gateway whose admin plane needs a token."""
    options, environ = ("--workers", str(request.param)), {"IMAGE_GATEWAY_ADMIN_TOKEN": TOKEN}
    with running_gateway(tmp_path_factory.mktemp("keys"), ONE_ACCOUNT, sandbox, *options, environ=environ) as running:
        yield running


def admin(stack: Stack, path: str, body: object = None, method: str = "POST", **headers: str) -> Reply:
    """Ask the admin plane with its token."""
    url = f"http://127.0.0.1:{stack.admin_port}/admin/{path}"
    return fetch(url, method=method, body=body, headers={"authorization": f"Bearer {TOKEN}", **headers})


def done(answer: Reply) -> Any:
    """What was answered, which must be no error."""
    assert answer.status == 200, answer.body
    return answer.json


def is_served(stack: Stack, key: str) -> bool:
    """Whether the real client is, with this key."""
    with openai.OpenAI(base_url=stack.url, api_key=key, max_retries=0) as client:
        try:
            made = client.images.generate(prompt="a lighthouse", size="1024x1024", quality="low")
        except openai.AuthenticationError:
            return False
        return bool(made.data)


def listed(stack: Stack) -> dict[str, dict[str, Any]]:
    """Every key by its id."""
    return {each["id"]: each for each in done(admin(stack, "keys", method="GET"))}


def test_a_key_from_its_making_to_its_end(stack: Stack) -> None:
    """It serves at once, the one in its place too, both as long as they should; no secret is told twice or logged."""
    made = done(admin(stack, "keys", {"project": "team", "name": "web", "job_type": "draft"}))
    first = made["key"]
    assert (made["project"], made["name"], made["job_type"], made["state"]) == ("team", "web", "draft", "live")
    assert is_served(stack, first)

    kept = done(admin(stack, f"keys/{made['id']}/rotate", {"grace": 60}))
    assert (kept["name"], kept["job_type"], kept["state"]) == ("web", "draft", "live")
    assert is_served(stack, first)
    assert is_served(stack, kept["key"])

    turned = done(admin(stack, f"keys/{kept['id']}/rotate"))
    assert is_served(stack, turned["key"])
    wait_until(lambda: not is_served(stack, kept["key"]), 5, "the end of the key that was replaced")

    assert done(admin(stack, f"keys/{turned['id']}/revoke"))["state"] == "revoked"
    assert done(admin(stack, f"keys/{turned['id']}/revoke"))["state"] == "revoked"
    wait_until(lambda: not is_served(stack, turned["key"]), 5, "the end of the key that was revoked")

    keys = listed(stack)
    assert [keys[each["id"]]["state"] for each in (made, kept, turned)] == ["live", "revoked", "revoked"]
    assert list(keys)[:3] == [turned["id"], kept["id"], made["id"]]
    dates = [(keys[each["id"]]["revoked"], keys[each["id"]]["expires"]) for each in (made, kept, turned)]
    assert [[each is not None for each in pair] for pair in dates] == [[False, True], [True, False], [True, False]]
    assert made["created"] < str(dates[0][1])
    assert made["created"] <= str(dates[1][0]) <= str(dates[2][0])
    told = admin(stack, "keys", method="GET").body + stack.log.read_bytes()
    for each in (made, kept, turned):
        assert set(each) == SHOWN | {"key"}
        assert set(keys[each["id"]]) == SHOWN
        assert each["key"].partition("_")[2].encode() not in told


def test_what_is_done_with_keys_is_logged(stack: Stack) -> None:
    """Each with the id and the project of its key, whether on the admin plane or on the console.

    The grace is that which there is: a key that has ended gets none.
    """
    made = done(admin(stack, "keys", {"project": "team"}))
    kept = done(admin(stack, f"keys/{made['id']}/rotate", {"grace": 60}))
    done(admin(stack, f"keys/{kept['id']}/revoke"))
    late = done(admin(stack, f"keys/{kept['id']}/rotate", {"grace": 60}))
    ours = {made["id"], kept["id"], late["id"]}

    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in stack.log.read_text().splitlines() if line.startswith("{")]
        found = [line for line in lines if line.get("key_id") in ours and line["level"] == "info"]
        return found if len(found) == 4 else []

    wait_until(logged, 20, "the lines")
    assert [{name: line[name] for name in line if name not in ("ts", "level", "logger")} for line in logged()] == [
        {"event": "key created", "key_id": made["id"], "project": "team"},
        {"event": "key rotated", "key_id": kept["id"], "project": "team", "replaces": made["id"], "grace": 60.0},
        {"event": "key revoked", "key_id": kept["id"], "project": "team"},
        {"event": "key rotated", "key_id": late["id"], "project": "team", "replaces": kept["id"], "grace": 0.0},
    ]
    assert wrong(map(json.dumps, logged())) == []


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("keys", None, 400, "project"),
        ("keys", {"project": "none"}, 400, "project"),
        ("keys", {"project": ["team"]}, 400, "project"),
        ("keys", {"project": "team", "jobtype": "draft"}, 400, "jobtype"),
        ("keys", {"project": "team", "name": "two\nlines"}, 400, "name"),
        ("keys", {"project": "team", "job_type": "a b"}, 400, "job_type"),
        ("keys", {"project": "team", "job_type": "drafts"}, 400, "job_type"),
        ("keys", {"project": "team", "name": 0}, 400, "name"),
        ("keys", {"project": "team", "name": []}, 400, "name"),
        ("keys/key_none/rotate", None, 404, "id"),
        ("keys/key_none/rotate", {"grace": -1}, 400, "grace"),
        ("keys/key_none/rotate", {"seconds": 1}, 400, "seconds"),
        ("keys/key_none/revoke", None, 404, "id"),
    ],
)
def test_what_cannot_be_done_says_what_is_wrong(stack: Stack, path: str, body: object, status: int, param: str) -> None:
    """The error names the field, and no key comes of it."""
    before = listed(stack)
    answer = admin(stack, path, body)
    assert (answer.status, answer.error["param"]) == (status, param)
    assert listed(stack) == before


def test_a_name_that_is_misspelt_is_told_with_the_one_meant(stack: Stack) -> None:
    """Of a project, and of its job types: with another, every request of the key would be refused."""
    assert "(did you mean team?)" in admin(stack, "keys", {"project": "tean"}).error["message"]
    wrong = admin(stack, "keys", {"project": "team", "job_type": "drafts"}).error["message"]
    assert wrong == 'Project team has no job type "drafts" (did you mean draft?).'


def test_a_key_in_place_of_its_id_is_not_repeated(stack: Stack) -> None:
    """Whoever takes one for the other finds it in no answer and no log line."""
    key = stack.key()
    for action in ("rotate", "revoke"):
        answer = admin(stack, f"keys/{key}/{action}")
        assert answer.status == 404
        assert key.encode() not in answer.body + stack.log.read_bytes()


def test_other_methods_are_told_both(stack: Stack) -> None:
    """What answers GET and POST says so to whoever comes with another."""
    answer = admin(stack, "keys", method="DELETE")
    assert (answer.status, set(answer.headers["allow"].split(", "))) == (405, {"GET", "HEAD", "POST"})
    for action in ("rotate", "revoke"):
        assert admin(stack, f"keys/x/{action}", method="GET").headers["allow"] == "POST"


def test_every_path_of_the_contract_answers(stack: Stack) -> None:
    """The pages that it names are there, and ask for the token."""
    question = {"project": "team", "request": {"prompt": "a lighthouse"}}
    asked: list[tuple[str, str, object]] = [("POST", "/admin/reload", None), ("POST", "/admin/explain", question)]
    names = ("/metrics", "/admin/keys", "/admin/spend", "/admin/budgets", "/admin/routes")
    for method, path, body in (*(("GET", name, None) for name in names), *asked):
        url = f"http://127.0.0.1:{stack.admin_port}{path}"
        assert fetch(url, method=method, body=body, headers={"authorization": f"Bearer {TOKEN}"}).status == 200, path
        assert fetch(url, method=method, body=body).status == 401, path
    assert fetch(f"http://127.0.0.1:{stack.admin_port}/console").status == 200


@contextlib.contextmanager
def on_a_store(home: Path, sandbox: Sandbox) -> Iterator[tuple[Stack, Valkey]]:
    """A gateway whose store may be killed."""
    store = Valkey(home)
    store.start()
    environ = {
        "IMAGE_GATEWAY_ADMIN_TOKEN": TOKEN,
        "IMAGE_GATEWAY_STORE": store.url,
        "IMAGE_GATEWAY_PEPPER": "0123456789abcdef" * 4,
    }
    try:
        (home / "g").mkdir()
        with running_gateway(home / "g", ONE_ACCOUNT, sandbox, environ=environ) as running:
            yield running, store
    finally:
        store.kill()


def test_without_the_store_they_say_so(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> None:
    """Each answers 503 and when to come again, and works again once the store is back."""
    with on_a_store(tmp_path_factory.mktemp("v"), sandbox) as (stack, store):
        made = done(admin(stack, "keys", {"project": "team"}))
        store.kill()
        asked: list[tuple[str, str, object]] = [
            ("GET", "keys", None),
            ("POST", "keys", {"project": "team"}),
            ("POST", f"keys/{made['id']}/rotate", {"grace": 1}),
            ("POST", f"keys/{made['id']}/revoke", None),
            ("GET", "spend", None),
            ("GET", "callbacks", None),
        ]
        for method, path, body in asked:
            answer = admin(stack, path, body, method)
            assert (answer.status, answer.error["code"]) == (503, "ledger_unavailable"), path
            assert int(answer.headers["retry-after"]) >= 1
        store.start()
        wait_until(lambda: admin(stack, "keys", method="GET").status == 200, 30, "the store")
        assert list(listed(stack)) == [made["id"]]
        assert is_served(stack, made["key"])


@pytest.mark.parametrize("hours", [-1, 1], ids=["behind", "ahead"])
async def test_a_gateway_whose_clock_is_wrong_shows_what_keys_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """They end by the store's clock, and that is told."""
    policy = Policy({}, {}, {}, {}, {}, (), "0" * 16)
    with embedded_store(tmp_path) as url:
        async with running_application(Settings(data=tmp_path), policy, url) as application:
            keys = Keys(application.store, b"a pepper for tests only")
            now = await keys.now()
            made = [(await keys.create("team", expires=now + after)).record.id for after in (-600, 600)]
            wrong = now + 3600 * hours
            monkeypatch.setattr(time, "time", lambda: wrong)
            shown: Any = await key_views(KeyAdministration(application, keys))["keys"]({})
    assert {each["id"]: each["state"] for each in shown} == dict(zip(made, ("expired", "live"), strict=True))
