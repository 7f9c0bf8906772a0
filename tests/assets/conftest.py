"""The storages under test: a folder, and a bucket of a real server."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.s3 import BlobsInS3
from tests.assets.s3_server import BUCKET, CREDENTIALS, S3Server, running_s3


@dataclass
class Storage:
    """Blobs, and a way to let them be older."""

    kind: Literal["disk", "s3"]
    blobs: BlobsOnDisk | BlobsInS3
    root: Path
    server: S3Server | None = None
    prefix: str = ""

    def age(self, name: str, seconds: float) -> None:
        """Let what is kept under a name be older."""
        if self.server is not None:
            self.server.age(f"{self.prefix}/{name}", seconds)
            return
        at = time.time() - seconds
        os.utime(self.root / name, (at, at))


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One server for all tests that let it live."""
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(params=["disk", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """A storage with nothing in it."""
    if request.param == "disk":
        return Storage("disk", BlobsOnDisk(tmp_path / "assets"), tmp_path / "assets")
    server: S3Server = request.getfixturevalue("s3_server")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    prefix = f"gateways/{tmp_path.name}"
    return Storage("s3", BlobsInS3(server.bucket(prefix)), server.folder / BUCKET / prefix, server, prefix)
