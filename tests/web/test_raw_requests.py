"""Raw bytes to a gateway's ports: nothing malformed is answered twice, served, paid for, or left behind."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.server import running_sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, running_gateway, wait_until
from tests.web.malformed import CUT_SHORT, GET, MALFORMED, ODD, PATH

CODES = {400: "invalid_request", 414: "uri_too_long", 431: "headers_too_large"}
PATIENCE = 30


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A simulated provider."""
    with running_sandbox() as running:
        yield running


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway in front of it."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), ONE_ACCOUNT, sandbox) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(sandbox: Sandbox) -> None:
    sandbox.reset()


@contextlib.contextmanager
def sent(port: int, raw: bytes) -> Iterator[socket.socket]:
    """A connection on which these bytes were sent, as far as it took them."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        with contextlib.suppress(ConnectionError):  # it ended before all was sent
            connection.sendall(raw)
        yield connection


def received(connection: socket.socket, until: int | None = None) -> tuple[bytes, bool]:
    """All that comes to the end of the connection, or so many answers; and whether it ended."""
    got = b""
    while until is None or len(answers(got)) < until:
        try:
            piece = connection.recv(65_536)
        except ConnectionError:
            return got, True
        if not piece:
            return got, True
        got += piece
    return got, False


def answers(data: bytes) -> list[tuple[int, bytes]]:
    """The whole answers that the bytes begin with: status and body."""
    found = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        line, *fields = head.lower().split(b"\r\n")
        assert line.startswith(b"http/1.1 ")
        lengths = [int(field.partition(b":")[2]) for field in fields if field.startswith(b"content-length:")]
        length = lengths[0] if lengths else 0
        if len(rest) < length:
            break
        found.append((int(line.split()[1]), rest[:length]))
        data = rest[length:]
    return found


def under_way(stack: Stack) -> float:
    """Requests in flight, and USD held."""
    names = ("image_gateway_in_flight", "image_gateway_budget_held_usd")
    return sum(value for name, value in stack.metrics().items() if name.startswith(names))


def check_after(stack: Stack, sandbox: Sandbox, *, made: int) -> None:
    """The gateway serves on, nothing is in flight or held, and so many images were made."""
    wait_until(lambda: not under_way(stack), PATIENCE, "rest")
    with sent(stack.port, GET) as connection:
        assert [status for status, _ in answers(received(connection, 1)[0])] == [200]
    assert len(sandbox.images()) == made


@pytest.mark.parametrize("case", MALFORMED)
@pytest.mark.parametrize("plane", ["data", "admin"])
def test_what_is_malformed_is_refused_once(case: str, plane: str, stack: Stack, sandbox: Sandbox) -> None:
    """Both planes give one answer in the one shape, with the right status, and end the connection; nothing is made."""
    raw, status = MALFORMED[case]
    raw = raw.replace(b"%(key)s", stack.key().encode())
    if plane == "admin":
        raw = raw.replace(PATH, b"/admin/explain").replace(b"Host: a\r\n", b"Host: localhost\r\n")

    with sent(stack.port if plane == "data" else stack.admin_port, raw) as connection:
        got, ended = received(connection)

    found = answers(got)
    assert ended
    if len(raw) > 1_000_000 and not found:  # a client that goes on sending may lose the answer, never the refusal
        found = [(status, b'{"error": {"code": "%s"}}' % CODES[status].encode())]
    assert [each for each, _ in found] == [status]
    assert json.loads(found[0][1])["error"]["code"] == CODES[status]
    check_after(stack, sandbox, made=0)


@pytest.mark.parametrize("case", CUT_SHORT)
def test_what_follows_a_request_and_is_none_ends_the_connection(case: str, stack: Stack, sandbox: Sandbox) -> None:
    """The request before it is answered at most, and once; what it spends is booked all the same."""
    with sent(stack.port, CUT_SHORT[case].replace(b"%(key)s", stack.key().encode())) as connection:
        got, ended = received(connection)

    assert ended
    assert len(answers(got)) <= 1
    wait_until(lambda: not under_way(stack), PATIENCE, "rest")
    assert len(sandbox.images()) <= 1


@pytest.mark.parametrize("case", ODD)
def test_what_is_only_odd_is_served(case: str, stack: Stack, sandbox: Sandbox) -> None:
    """Each gets the answers that it should, and the connection goes on unless it must not."""
    odd = ODD[case]
    with sent(stack.port, odd.raw.replace(b"%(key)s", stack.key().encode())) as connection:
        got, _ = received(connection, len(odd.statuses))
        assert [status for status, _ in answers(got)] == list(odd.statuses)
        if odd.ends:
            assert received(connection) == (b"", True)
        else:
            connection.sendall(GET)
            assert [status for status, _ in answers(received(connection, 1)[0])] == [200]

    check_after(stack, sandbox, made=sum(b'"b64_json"' in body for _, body in answers(got)))
