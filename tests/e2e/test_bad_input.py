"""Bad input: each kind gets its documented error, spends nothing, and leaves the gateway serving."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import psutil
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.clients import CLIENTS, nothing_spent, picture
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

MB = 1_000_000
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
JSON = {"content-type": "application/json"}
BOUNDARY = "boundary-of-a-test"
FORM = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
GOOD = b'{"prompt": "x", "model": "gpt-image-2"}'
BOMB = gzip.compress(bytes(100 * MB), 1)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway with a project for every kind of refusal."""
    with running_gateway(tmp_path_factory.mktemp("gateway"), CLIENTS, sandbox) as running:
        running.key()
        yield running


@pytest.fixture(autouse=True)
def _nothing_spent(stack: Stack, _clean_sandbox: None) -> Iterator[None]:
    """Hold every test of this module to it."""
    with nothing_spent(stack):
        yield
    assert fetch(f"http://127.0.0.1:{stack.port}/readyz").status == 200


def send(
    stack: Stack, path: str, body: bytes | Iterable[bytes] | None, headers: Mapping[str, str], *, method: str = "POST"
) -> Reply:
    """Send exactly these bytes with a good key; pieces go out chunked unless a length is named."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=60)
    try:
        every = {"authorization": f"Bearer {stack.key()}", **headers}
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            connection.request(method, path, body, every)
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def part(name: str, content: bytes, filename: str | None = None) -> bytes:
    """Return one part of a form."""
    file = f'; filename="{filename}"\r\nContent-Type: application/octet-stream' if filename else ""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    """Return a whole form."""
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


IMAGE = part("image", picture(), "a.png")
PROMPT = part("prompt", b"x")


@dataclass(frozen=True)
class Case:
    """A request and the error it must get."""

    body: bytes
    status: int
    code: str
    param: str | None = None
    path: str = GENERATIONS
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)
    kind: str = "invalid_request_error"


def with_prompt(member: str) -> bytes:
    """Return a JSON body with one more member."""
    return f'{{"prompt": "x", "model": "gpt-image-2", {member}}}'.encode()


BAD_JSON = {
    "cut off": b'{"prompt": "x"',
    "empty": b"",
    "blank": b"  \n",
    "array": b"[1, 2]",
    "text": b'"prompt"',
    "null": b"null",
    "two objects": b'{"prompt": "x"}{"prompt": "y"}',
    "NaN": with_prompt('"n": NaN'),
    "Infinity": with_prompt('"n": Infinity'),
    "-Infinity": with_prompt('"output_compression": -Infinity'),
    "1e999": with_prompt('"n": 1e999'),
    "comment": b'{"prompt": "x" /* y */}',
    "trailing comma": b'{"prompt": "x",}',
    "single quotes": b"{'prompt': 'x'}",
    "leading zero": with_prompt('"n": 01'),
    "broken UTF-8": b'{"prompt": "\xff\xfe"}',
    "overlong UTF-8": b'{"prompt": "\xc0\xaf"}',
    "surrogate as bytes": b'{"prompt": "\xed\xa0\x80"}',
    "lone surrogate": b'{"prompt": "\\ud800"}',
    "lone low surrogate": b'{"prompt": "\\udc00 x"}',
    "control character": b'{"prompt": "a\x00b"}',
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": '{"prompt": "x"}'.encode("utf-16"),
    "deep arrays": with_prompt('"x": ' + "[" * 100_000 + "]" * 100_000),
    "deep objects": with_prompt('"x": ' + '{"a":' * 50_000 + "1" + "}" * 50_000),
    "endless number": with_prompt('"n": ' + "9" * 10_000),
}
WRONG_N = {
    "zero": ("0", "invalid_value"),
    "negative": ("-1", "invalid_value"),
    "a billion": ("1000000000", "invalid_value"),
    "beyond 64 bits": ("99999999999999999999999", "invalid_value"),
    "text": ('"3"', "invalid_type"),
    "true": ("true", "invalid_type"),
    "fraction": ("1.5", "invalid_type"),
    "whole fraction": ("1.0", "invalid_type"),
    "exponent": ("1e9", "invalid_type"),
    "array": ("[1]", "invalid_type"),
    "object": ("{}", "invalid_type"),
}
VALUES = {
    "no prompt": (b'{"model": "gpt-image-2"}', "prompt", "missing_required_parameter"),
    "empty prompt": (b'{"prompt": ""}', "prompt", "missing_required_parameter"),
    "prompt null": (b'{"prompt": null}', "prompt", "missing_required_parameter"),
    "prompt is a number": (b'{"prompt": 5}', "prompt", "invalid_type"),
    "long prompt": (json.dumps({"prompt": "é" * 40_000}).encode(), "prompt", "string_above_max_length"),
    "huge prompt": (json.dumps({"prompt": "x" * 3_000_000}).encode(), "prompt", "string_above_max_length"),
    "model is a number": (with_prompt('"size": 1024'), "size", "invalid_type"),
    "stream is a text": (with_prompt('"stream": "true"'), "stream", "invalid_type"),
    "partial images": (with_prompt('"stream": true, "partial_images": 4'), "partial_images", "invalid_value"),
    "async": (with_prompt('"async": "maybe"'), "async", "invalid_type"),
    "async stream": (with_prompt('"async": true, "stream": true'), "stream", "unsupported_parameter"),
    "callback": (with_prompt('"callback_url": "ftp://x.test/"'), "callback_url", "invalid_value"),
    "size": (with_prompt('"size": "3x3"'), "size", "unsupported_by_every_route"),
    "size in words": (with_prompt('"size": "large"'), "size", "unsupported_by_every_route"),
    "transparent": (with_prompt('"background": "transparent"'), "background", "unsupported_by_every_route"),
    "images is a text": (with_prompt('"images": "x"'), "images", "invalid_type"),
    "image_urls is a text": (with_prompt('"image_urls": "x"'), "image_urls", "invalid_type"),
}
HEADERS = {
    "max cost in words": ({"x-gateway-max-cost": "cheap"}, 400, "invalid_value", "X-Gateway-Max-Cost"),
    "negative max cost": ({"x-gateway-max-cost": "-1"}, 400, "invalid_value", "X-Gateway-Max-Cost"),
    "max cost NaN": ({"x-gateway-max-cost": "NaN"}, 400, "invalid_value", "X-Gateway-Max-Cost"),
    "max cost exponent": ({"x-gateway-max-cost": "1e2"}, 400, "invalid_value", "X-Gateway-Max-Cost"),
    "dry run maybe": ({"x-gateway-dry-run": "maybe"}, 400, "invalid_value", "X-Gateway-Dry-Run"),
    "tags": ({"x-gateway-tags": "no equals sign"}, 400, "invalid_value", "X-Gateway-Tags"),
    "many tags": ({"x-gateway-tags": ",".join(f"a{i}=b" for i in range(11))}, 400, "invalid_value", "X-Gateway-Tags"),
    "max wait": ({"x-gateway-max-wait": "soon"}, 400, "invalid_value", "X-Gateway-Max-Wait"),
    "long max wait": ({"x-gateway-max-wait": "25h"}, 400, "invalid_value", "X-Gateway-Max-Wait"),
    "job type": ({"x-gateway-job-type": "hero"}, 403, "job_type_not_allowed", "X-Gateway-Job-Type"),
    "unknown job type": ({"x-gateway-job-type": "nope"}, 403, "job_type_not_allowed", "X-Gateway-Job-Type"),
    "lane": ({"x-gateway-lane": "testing"}, 403, "lane_not_allowed", "X-Gateway-Lane"),
    "low max cost": ({"x-gateway-max-cost": "0.00001"}, 402, "max_cost_exceeded", "X-Gateway-Max-Cost"),
}
FORMS = {
    "no image": (form(PROMPT), 400, "missing_required_parameter", "image"),
    "mask without an image": (
        form(PROMPT, part("mask", picture(), "m.png")),
        400,
        "missing_required_parameter",
        "image",
    ),
    "no prompt": (form(IMAGE), 400, "missing_required_parameter", "prompt"),
    "17 images": (form(PROMPT, *([part("image[]", picture(), "a.png")] * 17)), 400, "invalid_value", "image"),
    "two masks": (form(PROMPT, IMAGE, *([part("mask", picture(), "m.png")] * 2)), 400, "invalid_value", "mask"),
    "n twice": (form(PROMPT, IMAGE, part("n", b"1"), part("n", b"2")), 400, "invalid_value", "n"),
    "n zero": (form(PROMPT, IMAGE, part("n", b"0")), 400, "invalid_value", "n"),
    "n in words": (form(PROMPT, IMAGE, part("n", b"three")), 400, "invalid_type", "n"),
    "n with a sign": (form(PROMPT, IMAGE, part("n", b"+1")), 400, "invalid_type", "n"),
    "n in Arabic digits": (form(PROMPT, IMAGE, part("n", "٣".encode())), 400, "invalid_type", "n"),
    "stream yes": (form(PROMPT, IMAGE, part("stream", b"yes")), 400, "invalid_type", "stream"),
    "prompt is not UTF-8": (form(IMAGE, part("prompt", b"\xff\xfe")), 400, "invalid_multipart", "prompt"),
    "cut off": (form(PROMPT, IMAGE)[:-30], 400, "invalid_multipart", None),
    "no parts": (form(), 400, "invalid_multipart", None),
    "empty": (b"", 400, "invalid_multipart", None),
    "another boundary": (form(PROMPT, IMAGE).replace(b"boundary-of", b"boundary-from"), 400, "invalid_multipart", None),
    "many parts": (form(*[part(f"f{i}", b"x") for i in range(100)]), 400, "invalid_multipart", None),
    "long field": (form(IMAGE, part("prompt", b"x" * 300_000)), 413, "request_too_large", "prompt"),
    "unknown model": (form(PROMPT, IMAGE, part("model", b"nope")), 404, "model_not_found", "model"),
}
CONTENT_TYPES = {
    "none": (GENERATIONS, GOOD, {}),
    "text": (GENERATIONS, GOOD, {"content-type": "text/plain"}),
    "urlencoded": (GENERATIONS, b"prompt=x", {"content-type": "application/x-www-form-urlencoded"}),
    "form to generations": (GENERATIONS, form(PROMPT), FORM),
    "other charset": (GENERATIONS, GOOD, {"content-type": "application/json; charset=latin-1"}),
    "image to edits": (EDITS, picture(), {"content-type": "image/png"}),
}
ENCODINGS = {
    "gzip": (GENERATIONS, gzip.compress(GOOD), {**JSON, "content-encoding": "gzip"}),
    "gzip bomb": (GENERATIONS, BOMB, {**JSON, "content-encoding": "gzip"}),
    "gzip bomb in a form": (EDITS, BOMB, {**FORM, "content-encoding": "gzip"}),
    "deflate": (GENERATIONS, zlib.compress(GOOD), {**JSON, "content-encoding": "deflate"}),
    "twice": (GENERATIONS, gzip.compress(gzip.compress(GOOD)), {**JSON, "content-encoding": "gzip, gzip"}),
}


def cases() -> Iterator[object]:
    """Yield every case, by name."""
    for name, body in BAD_JSON.items():
        yield pytest.param(Case(body, 400, "invalid_json"), id=f"json: {name}")
    yield pytest.param(Case(with_prompt('"prompt": "y"'), 400, "invalid_json", "prompt"), id="json: same key twice")
    yield pytest.param(
        Case(with_prompt('"x": {"a": 1, "a": 2}'), 400, "invalid_json", "a"), id="json: nested key twice"
    )
    for name, (value, code) in WRONG_N.items():
        yield pytest.param(Case(with_prompt(f'"n": {value}'), 400, code, "n"), id=f"n: {name}")
    for name, (body, param, code) in VALUES.items():
        yield pytest.param(Case(body, 400, code, param), id=f"value: {name}")
    yield pytest.param(Case(b'{"prompt": "x", "model": "nope"}', 404, "model_not_found", "model"), id="unknown model")
    for name, (headers, status, code, header) in HEADERS.items():
        kind = {402: "insufficient_quota", 403: "permission_error"}.get(status, "invalid_request_error")
        yield pytest.param(
            Case(GOOD, status, code, header, headers={**JSON, **headers}, kind=kind), id=f"header: {name}"
        )
    for name, (body, status, code, field_name) in FORMS.items():
        yield pytest.param(Case(body, status, code, field_name, EDITS, FORM), id=f"form: {name}")
    for name, (path, body, headers) in CONTENT_TYPES.items():
        case = Case(body, 415, "unsupported_media_type", "Content-Type", path, headers)
        yield pytest.param(case, id=f"content type: {name}")
    for name, (path, body, headers) in ENCODINGS.items():
        case = Case(body, 415, "unsupported_media_type", "Content-Encoding", path, headers)
        yield pytest.param(case, id=f"encoding: {name}")


@pytest.mark.parametrize("case", list(cases()))
def test_refused(stack: Stack, case: Case) -> None:
    """Status, type, code and param are as documented, with a message and a request id."""
    answer = send(stack, case.path, case.body, case.headers)
    error = answer.error
    assert (answer.status, error["type"], error["code"], error["param"]) == (
        case.status,
        case.kind,
        case.code,
        case.param,
    )
    assert error["message"]
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")


def zeros(size: int) -> Iterator[bytes]:
    """Yield a form with several large images, made as it goes."""
    yield PROMPT
    piece = bytes(MB)
    for number in range(size // (40 * MB)):
        yield part("image[]", b"", f"{number}.png").removesuffix(b"\r\n")
        for _ in range(40):
            yield piece
        yield b"\r\n"
    yield form()


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_200_mb_upload(stack: Stack, *, announced: bool) -> None:
    """A 200 MB form is a 413, at once where its length is announced and at the limit where it is not."""
    length = {"content-length": str(sum(map(len, zeros(200 * MB))))} if announced else {}
    answer = send(stack, EDITS, zeros(200 * MB), {**FORM, **length})
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_announced_upload_is_refused_before_it_is_sent(stack: Stack) -> None:
    """Headers alone are enough for a 413; a client that waits for 100 Continue sends nothing."""
    head = (
        f"POST {EDITS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.key()}\r\ncontent-length: 200000000\r\n"
        f"content-type: {FORM['content-type']}\r\nexpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as sock:
        sock.sendall(head.encode())
        assert sock.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer igw_not_a_key"},
        {"authorization": "Bearer "},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"api-key": "sk-sandbox"},
        {"authorization": "Bearer sk-sandbox"},
        {"cookie": "api-key=x"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", [GENERATIONS, EDITS, "/v1/images/variations"])
def test_no_good_key(stack: Stack, path: str, headers: dict[str, str]) -> None:
    """Without a live key of the gateway every endpoint answers 401, whatever the body is."""
    answer = fetch(f"http://127.0.0.1:{stack.port}{path}", data=GOOD, headers={**JSON, **headers}, method="POST")
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("name", ["api-key", "api_key", "key", "authorization", "access_token"])
def test_key_in_the_url(stack: Stack, name: str) -> None:
    """A key in the query string, where proxies log it, is not taken, and not logged here either."""
    url = f"http://127.0.0.1:{stack.port}{GENERATIONS}?{name}={stack.key()}"
    answer = fetch(url, data=GOOD, headers=JSON, method="POST")
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert stack.key() not in stack.log.read_text()


def test_nearly_right_key(stack: Stack) -> None:
    """A key with one character changed, cut off or added is wrong."""
    key = stack.key()
    last = "0" if key[-1] != "0" else "1"
    for wrong in (key[:-1], key + "0", key[:-1] + last, key.upper(), key.swapcase(), key[4:]):
        answer = fetch(
            f"http://127.0.0.1:{stack.port}{GENERATIONS}",
            data=GOOD,
            headers={**JSON, "authorization": f"Bearer {wrong}"},
            method="POST",
        )
        assert answer.status == 401


def test_revoked_key(stack: Stack) -> None:
    """A revoked key stops working within five seconds, and the project's other key goes on."""
    made = stack.command("keys", "create", "--project", "team")
    key = made.stdout.strip()
    listed = {row["id"] for row in json.loads(stack.command("keys", "list", "--format", "json").stdout)}
    [key_id] = [key_id for key_id in listed if key_id in made.stderr]

    def models(secret: str) -> int:
        return fetch(f"{stack.url}/models", headers={"authorization": f"Bearer {secret}"}).status

    assert models(key) == 200
    assert stack.command("keys", "revoke", key_id).returncode == 0
    wait_until(lambda: models(key) == 401, 5, "the end of a revoked key")
    answer = fetch(f"{stack.url}/images/generations", body={"prompt": "x"}, headers={"api-key": key}, method="POST")
    assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
    assert models(stack.key()) == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1/images/generation", 404, "not_found"),
        ("POST", "/v1/images/generations/", 404, "not_found"),
        ("POST", "/v1/v1/images/generations", 404, "not_found"),
        ("POST", "/v1/chat/completions", 404, "not_found"),
        ("POST", "//v1/images/generations", 404, "not_found"),
        ("POST", "/v1/images/%67enerations/../edits", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/metrics", 404, "not_found"),
        ("GET", "/admin/spend", 404, "not_found"),
        ("GET", GENERATIONS, 405, "method_not_allowed"),
        ("DELETE", EDITS, 405, "method_not_allowed"),
        ("PUT", "/v1/models", 405, "method_not_allowed"),
        ("TRACE", "/v1/models", 405, "method_not_allowed"),
        ("FOO", GENERATIONS, 405, "method_not_allowed"),
    ],
)
def test_wrong_path_or_method(stack: Stack, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths and methods get an error in OpenAI's shape too; what belongs to the admin plane is not here."""
    body = GOOD if method == "POST" else None
    answer = send(stack, path, body, JSON if body else {}, method=method)
    if answer.status == 400:  # a method that is none in HTTP
        assert (method, answer.error["code"]) == ("FOO", "invalid_request")
        return
    assert (answer.status, answer.error["code"]) == (status, code)
    assert status == 404 or "allow" in answer.headers


def test_client_that_hangs_up(stack: Stack) -> None:
    """A client that leaves in the middle of its upload leaves nothing behind."""
    process = psutil.Process(stack.process.pid)
    stack.get("/v1/models")
    before = process.num_fds()
    head = f"POST {EDITS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.key()}\r\ncontent-length: 90000000\r\n"
    started = (
        f"{head}content-type: {FORM['content-type']}\r\n\r\n".encode() + PROMPT + part("image", bytes(MB), "a.png")
    )
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as sock:
            sock.sendall(started)
    wait_until(lambda: process.num_fds() <= before, what="the end of connections and temporary files")


def test_two_bodies_on_one_connection(stack: Stack) -> None:
    """A refused request leaves a connection on which the next one is understood."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30)
    headers = {**JSON, "authorization": f"Bearer {stack.key()}"}
    try:
        for body, status in ((b"{", 400), (b'{"prompt": "x", "model": "nope"}', 404), (b"[]", 400)):
            connection.request("POST", GENERATIONS, body, headers)
            answer = connection.getresponse()
            assert answer.status == status
            answer.read()
    finally:
        connection.close()
