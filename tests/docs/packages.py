"""Other people's libraries that pages show, installed once into a cache; skipped where they cannot be had."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.installing import cached, install

NODE = "node"
LANGCHAIN = "langchain-openai"
NODE_PACKAGES = (
    "@ai-sdk/openai@3.0.141",
    "@ai-sdk/openai-compatible@2.0.87",
    "@langchain/core@1.4.0",
    "@langchain/openai@1.5.8",
    "ai@6.0.326",
    "openai@6.49.0",
)
PYTHON_PACKAGES = {LANGCHAIN: "langchain-openai==1.7.3"}
NEEDED = 20
"""The oldest major version of Node that these were seen to work with."""
INSTALL_SECONDS = 400


def modules() -> Path:
    """The folder `node_modules` with the packages that pages show."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("node and npm are needed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NEEDED:
        pytest.skip(f"node {NEEDED} or newer is needed; this is {version}")
    folder = cached("node-" + "-".join(name.rpartition("@")[2] for name in NODE_PACKAGES))
    if not (folder / "node_modules").is_dir():
        work = folder.with_name(f"{folder.name}.{os.getpid()}")
        work.mkdir(parents=True)
        (work / "package.json").write_text('{"private": true}')
        install([npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *NODE_PACKAGES], work, INSTALL_SECONDS)
        _put(work, folder)
    return folder / "node_modules"


def interpreter(package: str) -> Path:
    """A Python that has the package, and the `openai` that it brings along."""
    wanted = PYTHON_PACKAGES[package]
    folder = cached(wanted)
    if not (folder / "installed").exists():
        folder.mkdir(parents=True, exist_ok=True)
        install([sys.executable, "-m", "venv", str(folder)], folder, INSTALL_SECONDS)
        install([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", wanted], folder, INSTALL_SECONDS)
        (folder / "installed").touch()
    return folder / "bin" / "python"


def _put(work: Path, folder: Path) -> None:
    try:
        work.rename(folder)
    except OSError:
        shutil.rmtree(work)  # somebody else was first
