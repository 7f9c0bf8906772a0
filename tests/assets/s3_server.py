"""A real server that speaks S3 and checks signatures (nanio, from PyPI), as a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.assets.location import Bucket
from tests.ports import free_port

ACCESS, SECRET, REGION, BUCKET = "AKIAGATEWAYTESTS", "a-secret-of-the-tests", "eu-central-1", "pictures"
CREDENTIALS: Mapping[str, str] = {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}


def command() -> list[str]:
    """How the server is started; skips the test where it is not installed."""
    if importlib.util.find_spec("nanio") is not None:
        return [sys.executable, "-m", "nanio"]
    found = shutil.which("nanio")
    if found is None:
        pytest.skip("nanio, the S3 server of these tests, is not installed")
    return [found]


class S3Server:
    """One server on one folder; what it keeps survives a stop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        (folder / BUCKET).mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self, prefix: str = "") -> Bucket:
        """The bucket, from a prefix on."""
        return Bucket(BUCKET, prefix, self.endpoint, REGION)

    def url(self, prefix: str = "") -> str:
        """The same, as an operator names it."""
        return f"s3://{BUCKET}/{prefix}?endpoint={self.endpoint}&region={REGION}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        where = ["--data-dir", str(self.folder), "--host", "127.0.0.1", "--port", str(self.port), "--region", REGION]
        environ = {**os.environ, "NANIO_ACCESS_KEY": ACCESS, "NANIO_SECRET_KEY": SECRET}
        quiet = ["--log-level", "error", "--no-access-log"]
        self._process = subprocess.Popen(
            [*command(), "serve", *where, *quiet], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(600):
            if self._answers():
                return
            time.sleep(0.05)
        raise AssertionError("the S3 server does not start")

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint, timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
            return True
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """Kill it, whatever it is doing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None

    def age(self, path: str, seconds: float) -> None:
        """Let an object be older."""
        about = self.folder / BUCKET / ".nanio-meta" / f"{path}.json"
        told = json.loads(about.read_text())
        told["last_modified"] = datetime.fromtimestamp(time.time() - seconds, UTC).isoformat()
        about.write_text(json.dumps(told))

    def objects(self, prefix: str = "") -> list[str]:
        """The names of what is kept, without the server's own files."""
        root = self.folder / BUCKET
        found = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        return sorted(name for name in found if name.startswith(prefix) and "nanio" not in name)


@contextmanager
def running_s3(folder: Path) -> Iterator[S3Server]:
    """Run a server until the end of the block."""
    server = S3Server(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
