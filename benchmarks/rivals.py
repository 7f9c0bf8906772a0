"""Other gateways, in environments of their own: what could not be installed is left out, with a word."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.processes import CACHE, Family, free_port, started, wait_http
from benchmarks.subjects import Subject, ask

LITELLM, PORTKEY = "1.106.2", "1.15.2"
PLOTTING = "3.11.2"
KEY = "sk-bench-1234"
INSTALL_SECONDS = 600


class UnavailableError(Exception):
    """Something could not be installed; the message says what and why."""


def _install(what: str, *commands: list[str]) -> None:
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnavailableError(f"{what} could not be installed: {error}") from error
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
            raise UnavailableError(f"{what} could not be installed: {words[-1][:200]}")


def python_environment(name: str, requirement: str) -> Path:
    """Return the folder of programs of an environment that holds a requirement; UnavailableError if it cannot be."""
    home = CACHE / f"{name}-{requirement.rpartition('=')[2]}"
    stamp = home / "installed"
    if not stamp.exists():
        shutil.rmtree(home, ignore_errors=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _install(name, [sys.executable, "-m", "venv", str(home)], [*pip, "install", requirement])
        stamp.touch()
    return home / "bin"


def node_package(name: str, package: str, version: str) -> Path:
    """Return the folder of a package from npm; UnavailableError if it cannot be."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise UnavailableError(f"{name} needs node and npm")
    home = CACHE / f"{name}-{version}"
    stamp = home / "installed"
    if not stamp.exists():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--prefix", str(home)]
        _install(name, [*command, f"{package}@{version}"])
        stamp.touch()
    return home / "node_modules" / package


@contextlib.contextmanager
def litellm(folder: Path, behind: int, *, cores: tuple[int, ...]) -> Iterator[Subject]:
    """Run LiteLLM's proxy with one worker, no database and no budgets, in front of an upstream's port."""
    programs = python_environment("litellm", f"litellm[proxy]=={LITELLM}")
    models = [
        {
            "model_name": kind,
            "litellm_params": {
                "model": "openai/gpt-image-2",
                "api_base": f"http://127.0.0.1:{behind}/{kind}/v1",
                "api_key": "none",
            },
        }
        for kind in ("small", "large", "huge", "edit")
    ]
    config, log, port = folder / "litellm.yaml", folder / "litellm.log", free_port()
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": KEY}}))
    environ = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_TELEMETRY": "False"}
    command = [str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    headers = (("Authorization", f"Bearer {KEY}"),)
    with started(command, cores=cores, log=log, environ=environ) as process:
        wait_http(f"http://127.0.0.1:{port}/health/liveliness", process, log, dict(headers))
        yield Subject(
            f"LiteLLM {LITELLM} (no Redis, no budgets)",
            lambda kind: ask(port, kind, headers=headers, model=kind),
            Family.of(process.pid),
        )


@contextlib.contextmanager
def portkey(folder: Path, behind: int, *, cores: tuple[int, ...]) -> Iterator[Subject]:
    """Run Portkey's gateway in front of an upstream's port."""
    package = node_package("portkey", "@portkey-ai/gateway", PORTKEY)
    log, port = folder / "portkey.log", free_port()
    command = ["node", str(package / "build" / "start-server.js"), f"--port={port}", "--headless"]
    environ = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    with started(command, cores=cores, log=log, environ=environ) as process:
        wait_http(f"http://127.0.0.1:{port}/", process, log)
        yield Subject(
            f"Portkey {PORTKEY} (no budgets)",
            lambda kind: ask(
                port,
                kind,
                headers=(
                    ("Authorization", "Bearer none"),
                    ("x-portkey-provider", "openai"),
                    ("x-portkey-custom-host", f"http://127.0.0.1:{behind}/{kind}/v1"),
                ),
            ),
            Family.of(process.pid),
        )
