"""Packages of other ecosystems that tests need: installed once, outside the repository, or the test is skipped."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def cached(name: str) -> Path:
    """The folder outside the repository that keeps what has this name, whether or not it is there yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "image-gateway-tests" / name


def install(command: list[str], folder: Path, seconds: float) -> None:
    """Run a command that installs something into a folder; skips the test where it fails or takes longer."""
    try:
        made = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"{Path(command[0]).name} did not end within {seconds:g} s")
    if made.returncode:
        pytest.skip(f"{Path(command[0]).name} failed: {made.stderr.strip()[-300:]}")
