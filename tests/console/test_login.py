"""Who is counted for wrong tokens of the console: the client that a named proxy tells of, and nobody else."""

from __future__ import annotations

import http.client
from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from gateway.web.wrong_keys import CODE
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Reply, Stack, fetch, running_gateway

MOST = 5
TOKEN = "ein Schlüssel für die Verwaltung"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway behind a proxy on this machine, where five wrong tokens a minute are too many."""
    options = ("--max-wrong-keys", str(MOST), "--trusted-proxies", "127.0.0.1")
    environ = {"IMAGE_GATEWAY_ADMIN_TOKEN": f"{TOKEN}\n"}  # as a file with a last line end becomes a variable
    folder = tmp_path_factory.mktemp("proxied")
    with running_gateway(folder, ONE_ACCOUNT, sandbox, *options, environ=environ) as running:
        yield running


def log_in(stack: Stack, token: str, address: str) -> Reply:
    """Give a token, from an address behind the proxy."""
    headers = {"x-console": "1", "x-forwarded-for": address}
    url = f"http://127.0.0.1:{stack.admin_port}/console/login"
    return fetch(url, method="POST", body={"token": token}, headers=headers)


def test_one_who_guesses_locks_nobody_out(proxied: Stack) -> None:
    """Wrong tokens count for the client behind the proxy, who gets 429; others and the right token do not wait."""
    guessed = [log_in(proxied, f"wrong {number}", "192.0.2.1") for number in range(MOST + 2)]
    assert [answer.status for answer in guessed] == [401] * MOST + [429] * 2
    assert guessed[-1].error["code"] == CODE
    assert 1 <= int(guessed[-1].headers["retry-after"]) <= 60
    assert log_in(proxied, "wrong", "192.0.2.2").status == 401
    assert log_in(proxied, TOKEN, "192.0.2.2").status == 204
    assert log_in(proxied, TOKEN, "192.0.2.1").status == 204


def test_who_only_knows_the_port_is_led_there(proxied: Stack) -> None:
    """The root of the admin plane and the console's path with a slash lead to the console."""
    for path in ("/", "/console/"):
        connection = http.client.HTTPConnection("127.0.0.1", proxied.admin_port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["location"]) == (303, "/console")
        connection.close()


def test_a_token_may_have_any_letters(proxied: Stack) -> None:
    """As a bearer, in UTF-8, and at the login it is the same token, without the line end of the file it came from."""
    sent = f"Bearer {TOKEN}".encode().decode("latin-1")
    url = f"http://127.0.0.1:{proxied.admin_port}/admin/budgets"
    assert fetch(url, headers={"authorization": sent}).status == 200
    assert log_in(proxied, f" {TOKEN}\n", "192.0.2.2").status == 204


def test_a_household_of_addresses_is_one(proxied: Stack) -> None:
    """Whoever has a network of IPv6 addresses cannot begin anew with each of them."""
    guessed = [log_in(proxied, "wrong", f"2001:db8:1:2::{number:x}") for number in range(MOST + 1)]
    assert [answer.status for answer in guessed] == [401] * MOST + [429]


def test_what_a_client_claims_is_not_believed(proxied: Stack) -> None:
    """An address that it puts in front of the one that the proxy saw changes nothing."""
    guessed = [log_in(proxied, "wrong", f"10.1.1.{number}, 192.0.2.9") for number in range(MOST + 1)]
    assert [answer.status for answer in guessed] == [401] * MOST + [429]


def test_wrong_tokens_count_wherever_they_are_given(proxied: Stack) -> None:
    """Those of the console and those that come as a bearer are one number."""

    def bearer() -> int:
        headers = {"authorization": "Bearer wrong", "x-forwarded-for": "192.0.2.20"}
        return fetch(f"http://127.0.0.1:{proxied.admin_port}/admin/budgets", headers=headers).status

    statuses = [log_in(proxied, "wrong", "192.0.2.20").status if number % 2 else bearer() for number in range(MOST + 1)]
    assert statuses == [401] * MOST + [429]
