"""Memory: what goes through the gateway does not stay in it. The sandbox is a process of its own here."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psutil
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.clients import CLIENTS, nothing_spent, picture
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.ports import free_port

MB = 1_000_000
MIB = 1024 * 1024
ALLOWED = 64 * MIB
BODY = b'{"prompt": "x", "model": "gpt-image-2", "quality": "low", "size": "1024x1024"}'
BOUNDARY = "boundary-of-a-test"
PIECE = bytes(64 * 1024)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A sandbox process."""
    port = free_port()
    command = [sys.executable, "-m", "gateway", "sandbox", "--port", str(port), "--latency", "0"]
    with tempfile.TemporaryFile() as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        running = Sandbox(f"http://127.0.0.1:{port}")
        try:
            wait_until(lambda: _answers(running), 30, "the sandbox")
            yield running
        finally:
            process.terminate()


def _answers(sandbox: Sandbox) -> bool:
    with contextlib.suppress(OSError):
        return fetch(sandbox.url).status == 200
    return False


@pytest.fixture
def stack(tmp_path: Path, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway of its own for every test, since memory once taken is seldom given back; warm."""
    with running_gateway(tmp_path, CLIENTS, sandbox) as running:
        running.key()
        for _ in range(3):
            assert generate(running) > 10_000
            assert edit(running, 100_000) == 200
        sandbox.reset()
        yield running


class Peak:
    """The most memory that the gateway's process took in a `with` block, above what it had before, in bytes."""

    def __init__(self, stack: Stack) -> None:
        self._process = psutil.Process(stack.process.pid)
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._before = self._most = 0
        self.samples = 0

    @property
    def risen(self) -> int:
        """Bytes."""
        return self._most - self._before

    def __enter__(self) -> Self:
        self._before = self._most = self._process.memory_info().rss
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._sampler.join()
        sys.stdout.write(f"memory rose by {self.risen / MIB:.1f} MiB from {self._before / MIB:.1f} MiB\n")

    def _sample(self) -> None:
        while not self._stop.wait(0.005):
            self._most = max(self._most, self._process.memory_info().rss)
            self.samples += 1


@contextlib.contextmanager
def connected(stack: Stack) -> Iterator[http.client.HTTPConnection]:
    """A connection to the gateway."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=100)
    try:
        yield connection
    finally:
        connection.close()


def drain(answer: http.client.HTTPResponse) -> int:
    """Read an answer to its end, and return its length."""
    length = 0
    while piece := answer.read(64 * 1024):
        length += len(piece)
    return length


def generate(stack: Stack) -> int:
    """Generate an image, and return the length of the answer."""
    with connected(stack) as connection:
        headers = {"authorization": f"Bearer {stack.key()}", "content-type": "application/json"}
        connection.request("POST", "/v1/images/generations", BODY, headers)
        answer = connection.getresponse()
        assert answer.status == 200
        return drain(answer)


def upload(images: int, size: int) -> Iterator[bytes]:
    """Yield a form with images of `size` bytes each, made as it goes."""
    for name, value in (("prompt", "x"), ("model", "gpt-image-2"), ("quality", "low"), ("size", "1024x1024")):
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    start = picture()
    for _ in range(images):
        yield f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image[]"; filename="a.png"\r\n\r\n'.encode()
        yield start
        left = size - len(start)
        while left > 0:
            yield PIECE[:left]
            left -= len(PIECE)
        yield b"\r\n"
    yield f"--{BOUNDARY}--\r\n".encode()


def edit(stack: Stack, size: int, *, images: int = 1, announced: bool = True) -> int:
    """Edit images, and return the status of the answer, read to its end."""
    headers = {
        "authorization": f"Bearer {stack.key()}",
        "content-type": f"multipart/form-data; boundary={BOUNDARY}",
        "x-gateway-job-type": "only_main",
    }
    if announced:
        headers["content-length"] = str(sum(map(len, upload(images, size))))
    with connected(stack) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            connection.request("POST", "/v1/images/edits", upload(images, size), headers)
        answer = connection.getresponse()
        drain(answer)
        return answer.status


def test_a_large_answer_and_twenty_large_edits(stack: Stack) -> None:
    """A 20 MB answer and twenty 20 MB edits at once raise the process's memory by less than 64 MiB in all."""
    edits, size = 20, 20 * MB
    stack.sandbox.fault("pad", bytes=size, match={"operation": "generate"})
    with Peak(stack) as peak, ThreadPoolExecutor(edits + 1) as pool:
        made = pool.submit(generate, stack)
        statuses = list(pool.map(lambda n: edit(stack, size, announced=n % 2 == 0), range(edits)))
        assert made.result() > size
    arrived = [request["files"][0]["bytes"] for request in stack.sandbox.requests() if request["files"]]
    assert statuses == [200] * edits
    assert arrived == [size] * edits
    assert peak.samples > 10
    assert peak.risen < ALLOWED
    assert len(stack.sandbox.bill()["lines"]) == 21
    assert stack.held() == 0


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "chunked"])
def test_200_mb_upload(stack: Stack, *, announced: bool) -> None:
    """A 200 MB upload is refused without being kept in memory."""
    with nothing_spent(stack), Peak(stack) as peak:
        assert edit(stack, 40 * MB, images=5, announced=announced) == 413
    assert peak.risen < ALLOWED // 2


def test_large_json_edit(stack: Stack) -> None:
    """A 40 MB data URL in JSON goes through without being kept in memory."""
    head = BODY[:-1] + b', "images": [{"image_url": "data:image/png;base64,'
    # The image is not one, and the provider says so; what counts is that all of it arrived there.
    text = b"A" * (40 * MB)
    headers = {"authorization": f"Bearer {stack.key()}", "content-type": "application/json"}
    with Peak(stack) as peak, connected(stack) as connection:
        connection.request("POST", "/v1/images/edits", head + text + b'"}]}', headers)
        answer = connection.getresponse()
        assert answer.status == 400
        assert b"invalid_image_file" in answer.read()
    assert peak.risen < ALLOWED // 2


def test_slow_reader(stack: Stack) -> None:
    """A client that leaves a 20 MB answer unread is waited for, with little of it in memory, and gets all of it."""
    stack.sandbox.fault("pad", bytes=20 * MB)
    head = (
        f"POST /v1/images/generations HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {stack.key()}\r\n"
        f"connection: close\r\ncontent-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
    )
    with Peak(stack) as peak, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", stack.port))
        sock.sendall(head.encode() + BODY)
        began = sock.recv(4096)
        time.sleep(2)
        assert stack.held() > 0  # the rest is still at the provider
        received = len(began)
        while piece := sock.recv(1 << 20):
            received += len(piece)
    assert began.startswith(b"HTTP/1.1 200")
    assert received > 20 * MB * 4 // 3
    assert peak.risen < ALLOWED // 4
    wait_until(lambda: stack.held() == 0, what="the settlement")
    assert len(stack.sandbox.bill()["lines"]) == 1


def test_memory_does_not_grow(stack: Stack) -> None:
    """After the first large edits, more of them take no more: nothing is kept of a request that is over."""
    for _ in range(3):
        assert edit(stack, 5 * MB) == 200
    with Peak(stack) as peak:
        for _ in range(12):
            assert edit(stack, 5 * MB) == 200
    assert peak.risen < 8 * MIB
