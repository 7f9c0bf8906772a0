"""Keys: compared in a time that tells nothing, shown to nobody, and not to be tried without end."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway
from gateway.ledger.key_format import new_key
from gateway.sandbox.client import Sandbox
from gateway.web.wrong_keys import CODE, MOST_ADDRESSES, WINDOW_SECONDS, WrongKeys
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Reply, Stack, fetch, running_gateway
from tests.security.conftest import TOKEN, Planes

PACKAGE = Path(gateway.__file__).parent
SECRETS = re.compile(r"token|secret|signature|password|api_key|hmac|pepper", re.IGNORECASE)
MOST = 5


def _name(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=inner) | ast.Subscript(value=inner):
            return _name(inner)
        case _:
            return ""


def test_no_secret_is_compared_byte_by_byte() -> None:
    """Nothing that is called a token, secret or signature stands beside `==`; simulated providers have no secrets."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.is_relative_to(PACKAGE / "sandbox"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
                sides = [node.left, *node.comparators]
                if any(SECRETS.search(_name(side)) for side in sides) and not any(
                    isinstance(side, ast.Constant) for side in sides
                ):
                    found.append(f"{path.name}:{node.lineno}: {ast.unparse(node)}")
    assert not found


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def note(wrong: WrongKeys, address: str) -> float | None:
    """Count one from an address."""
    return wrong.note({"client": (address, 1)}, {})


def test_failures_are_counted_by_the_minute() -> None:
    """The one beyond the number is told how long to wait, and after that minute counting begins anew."""
    clock = Clock()
    wrong = WrongKeys(2, clock=clock)
    one = "192.0.2.1"
    assert [note(wrong, one), note(wrong, one)] == [None, None]
    clock.now += 20
    assert note(wrong, one) == WINDOW_SECONDS - 20
    assert note(wrong, "192.0.2.2") is None
    clock.now += 40
    assert note(wrong, one) is None


def test_memory_is_bounded() -> None:
    """Beyond so many addresses the quietest is forgotten, and one that goes on failing is not."""
    wrong = WrongKeys(1)
    loud = "192.0.2.1"
    for number in range(MOST_ADDRESSES + 500):
        note(wrong, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        if number % 1000 == 0:
            note(wrong, loud)
    assert len(wrong._failures) == MOST_ADDRESSES
    assert note(wrong, loud) is not None


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway behind a proxy on this machine, where five wrong keys a minute are too many."""
    options = ("--max-wrong-keys", str(MOST), "--trusted-proxies", "127.0.0.1")
    environ = {"IMAGE_GATEWAY_ADMIN_TOKEN": TOKEN}
    with running_gateway(tmp_path_factory.mktemp("strict"), ONE_ACCOUNT, sandbox, *options, environ=environ) as stack:
        stack.key()
        yield stack


def models(stack: Stack, key: str | None, address: str, port: int | None = None, path: str = "/v1/models") -> Reply:
    """Ask with a key, from an address behind the proxy."""
    headers = {"x-forwarded-for": address} | ({"authorization": f"Bearer {key}"} if key else {})
    return fetch(f"http://127.0.0.1:{port or stack.port}{path}", headers=headers)


def test_too_many_wrong_keys_from_one_address(strict: Stack) -> None:
    """They get 429 that no SDK repeats; right keys, other addresses and requests without a key are served as before."""
    answers = [models(strict, new_key(), "192.0.2.1") for _ in range(MOST + 2)]
    assert [answer.status for answer in answers] == [401] * MOST + [429] * 2
    last = answers[-1]
    assert last.error["code"] == CODE
    assert 1 <= int(last.headers["retry-after"]) <= WINDOW_SECONDS
    assert last.headers["x-should-retry"] == "false"
    assert models(strict, strict.key(), "192.0.2.1").status == 200
    assert models(strict, new_key(), "192.0.2.2").status == 401
    assert models(strict, new_key(), "6.6.6.6, 192.0.2.1").status == 429
    assert models(strict, None, "192.0.2.1").status == 401
    assert "too many wrong keys from 192.0.2.1" in strict.log.read_text()


def test_images_are_asked_for_with_wrong_keys(strict: Stack) -> None:
    """The limit is that of every path, and nothing is held or sent for those it refuses."""
    arrived = len(strict.sandbox.requests())
    headers = {"x-forwarded-for": "192.0.2.30", "api-key": new_key()}
    url = f"http://127.0.0.1:{strict.port}/v1/images/generations"
    answers = [fetch(url, body={"prompt": "a cat"}, headers=headers).status for _ in range(MOST + 1)]
    assert answers == [401] * MOST + [429]
    assert len(strict.sandbox.requests()) == arrived


def test_wrong_tokens_of_the_admin_plane_count_too(strict: Stack) -> None:
    """Beyond the number they get 429, and the right token is served all the same."""
    asked = [models(strict, "wrong", "192.0.2.50", strict.admin_port, "/admin/budgets") for _ in range(MOST + 1)]
    assert [answer.status for answer in asked] == [401] * MOST + [429]
    assert models(strict, TOKEN, "192.0.2.50", strict.admin_port, "/admin/budgets").status == 200


def test_no_error_echoes_what_was_sent_as_a_key(planes: Planes) -> None:
    """Neither a wrong key, wherever it stands, nor a right one whose request fails, is in any answer or in the log."""
    wrong, right = new_key(), planes.stack.key()
    bodies = []
    for key in (wrong, right, "sk-other-vendors-key-0123456789", TOKEN):
        for headers in ({"authorization": f"Bearer {key}"}, {"api-key": key}, {"authorization": key}):
            for path, body in (("/v1/images/generations", {"n": "many"}), ("/v1/requests/none", None), ("/v1/x", None)):
                for port in (planes.port, planes.admin_port):
                    answer = fetch(f"http://127.0.0.1:{port}{path}", body=body, headers=headers)
                    assert answer.status >= 400
                    bodies.append(answer.body + str(dict(answer.headers)).encode())
    kept = planes.stack.log.read_bytes()
    for key in (wrong, right, "sk-other-vendors-key-0123456789", TOKEN):
        assert not [body for body in bodies if key.encode() in body]
        assert key.encode() not in kept


def test_listings_of_keys_show_ids_alone(planes: Planes) -> None:
    """What is listed of a key names it, and holds no part of it beyond the four letters that all begin with."""
    right = planes.stack.key()
    parts = {right[at : at + 8] for at in range(len("igw_"), len(right) - 7)}
    for form in ("table", "json"):
        listed = planes.stack.command("keys", "list", "--format", form)
        assert listed.returncode == 0
        assert "key_" in listed.stdout
        assert not [part for part in parts if part in listed.stdout + listed.stderr]
    assert set(json.loads(planes.stack.command("keys", "list", "--json").stdout)[0]) == {
        "id",
        "project",
        "name",
        "job_type",
        "state",
        "created",
        "revoked",
        "expires",
    }
