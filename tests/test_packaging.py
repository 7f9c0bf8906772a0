"""What is shipped is complete, locked, and works outside the repository."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.request
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

import gateway
from tests.layout_rules import HOMES

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")

DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "python_multipart": "python-multipart",
    "opentelemetry": "opentelemetry-api",
}
"""Names of distributions that differ from what is imported by more than the dash."""

FLOORS = {"starlette": (1, 3, 1), "python-multipart": (0, 0, 27), "h11": (0, 16), "redis": (4, 5, 5)}
"""The first versions without known holes: range requests, multipart headers, chunked bodies, mixed-up answers."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from this tree."""
    target = tmp_path_factory.mktemp("wheel")
    here = ("--no-build-isolation",) if importlib.util.find_spec("hatchling") else ()
    subprocess.run([*PIP, "wheel", "--no-deps", *here, "--wheel-dir", target, ROOT], check=True, timeout=100)
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a fresh environment with the locked dependencies and the wheel."""
    target = tmp_path_factory.mktemp("elsewhere") / "venv"
    venv.create(target, with_pip=True)
    python = target / "bin" / "python"
    install = (str(python), *PIP[1:], "install")
    subprocess.run([*install, "--require-hashes", "-r", str(ROOT / "requirements.txt")], check=True, timeout=110)
    subprocess.run([*install, "--no-deps", str(wheel)], check=True, timeout=60)
    return target / "bin"


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """What `pyproject.toml` says."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def normal(requirement: str) -> str:
    """Return the plain name of a requirement, `redis` for `redis[hiredis]>=6`."""
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0].lower().replace("_", "-")


def locked(file: str) -> dict[str, str]:
    """Return the versions that a lock file pins."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / file).read_text(), re.MULTILINE))


def numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def test_the_wheel_carries_all_it_needs(wheel: Path) -> None:
    """Catalog, policies, sandbox, Lua scripts, type marker and licence are inside; tests and start-up hooks are not."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        metadata = archive.read(next(name for name in names if name.endswith("/METADATA"))).decode()
    shipped = {f"gateway/_{path.relative_to(ROOT)}" for path in (ROOT / "policies").rglob("*.yaml")}
    code = {str(path.relative_to(ROOT)) for kind in ("*.py", "*.lua") for path in (ROOT / "gateway").rglob(kind)}

    assert shipped
    assert shipped | code | {"gateway/py.typed"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert f"\nVersion: {gateway.__version__}\n" in metadata
    assert {name.partition("/")[0] for name in names} == {"gateway", f"image_gateway-{gateway.__version__}.dist-info"}
    assert not [name for name in names if name.endswith((".pth", ".pyc"))]


def test_every_library_imported_is_declared(project: dict[str, Any]) -> None:
    """Each library that has a home in the package is a dependency of its own, with a lower bound."""
    declared = {normal(line): line for line in project["project"]["dependencies"]}
    extras = {normal(line) for lines in project["project"]["optional-dependencies"].values() for line in lines}

    assert {DISTRIBUTIONS.get(library, library).replace("_", "-") for library in HOMES} <= declared.keys() | extras
    assert [line for line in declared.values() if ">=" not in line] == []


def test_lock_files_pin_everything_by_hash(project: dict[str, Any]) -> None:
    """Every dependency is in its lock file, every entry has a hash, and no index, machine or path is named."""
    groups = project["dependency-groups"]
    wanted = {
        "requirements.txt": project["project"]["dependencies"],
        "requirements-dev.txt": project["project"]["dependencies"] + groups["dev"],
        "requirements-build.txt": groups["build"],
    }
    for file, requirements in wanted.items():
        text = (ROOT / file).read_text()
        entries = re.split(r"^(?=[\w.-]+==)", text, flags=re.MULTILINE)

        assert {normal(line) for line in requirements} <= locked(file).keys(), f"run `make lock` ({file})"
        assert all("--hash=sha256:" in entry for entry in entries[1:])
        assert not re.search(r"://|^-|--index|--find-links|\s/", text, re.MULTILINE)


def test_lock_files_agree(project: dict[str, Any]) -> None:
    """Tests run with the versions that are shipped, and within the declared bounds."""
    runtime, development = locked("requirements.txt"), locked("requirements-dev.txt")

    assert runtime.items() <= development.items()
    for line in project["project"]["dependencies"]:
        (lowest,) = re.findall(r">=([\w.]+)", line)
        assert numbers(runtime[normal(line)]) >= numbers(lowest)


def test_no_version_with_known_holes_is_allowed(project: dict[str, Any]) -> None:
    """Lock file and lower bounds stay at or above the versions that fixed what is known."""
    declared = {normal(line): line for line in project["project"]["dependencies"]}
    for name, floor in FLOORS.items():
        assert numbers(locked("requirements.txt")[name]) >= floor
        if name in declared:
            assert numbers(declared[name].partition(">=")[2]) >= floor


def test_one_version_everywhere(project: dict[str, Any]) -> None:
    """The package, the project file and the newest heading of the changelog name the same version."""
    headings = re.findall(r"^## \[(\d[\d.]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)

    assert project["project"]["version"] == gateway.__version__ == headings[0]


def test_every_dependency_has_its_reason(project: dict[str, Any]) -> None:
    """CONTRIBUTING says of each dependency why it is there, and of no other."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    groups = project["dependency-groups"]
    named = re.findall(r"^- `([\w.-]+)`:", text, re.MULTILINE)
    lines = [*project["project"]["dependencies"], *groups["dev"], *groups["build"]]

    assert sorted(named) == sorted(normal(line) for line in lines)


def test_make_says_what_it_can_do() -> None:
    """`make` alone lists every target of the contract."""
    listing = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    for target in ("demo", "test", "test-slow", "lint", "format", "lock", "lowest", "build", "clean", "help"):
        assert re.search(rf"^make {target} +\w", listing, re.MULTILINE)


def test_make_refuses_an_old_python_in_words(tmp_path: Path) -> None:
    """With an interpreter below 3.11 make stops at once and says what to do."""
    old = tmp_path / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "requirements-build.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "demo", f"PYTHON={old}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)

    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.mark.slow
def test_the_command_runs_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    """Installed from the wheel, the command tells its version."""
    command = (str(installed / "image-gateway"), "--version")
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    assert gateway.__version__ in done.stdout


@pytest.mark.slow
def test_the_demo_runs_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    """Installed from the wheel, the demo prints a base URL and a key with which an image is made and counted."""
    port, admin_port = free_ports(2)
    ours = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "IMAGE_GATEWAY_PORT": str(port),
        "IMAGE_GATEWAY_ADMIN_PORT": str(admin_port),
        "PYTHONUNBUFFERED": "1",
    }
    command = (str(installed / "image-gateway"), "demo")
    with subprocess.Popen(command, cwd=tmp_path, env=ours, stdout=subprocess.PIPE, text=True) as demo:
        try:
            base_url, key = announced(demo)
            request = urllib.request.Request(
                f"{base_url}/images/generations",
                json.dumps({"prompt": "a lighthouse", "quality": "low", "size": "1024x1024"}).encode(),
                {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:
                image = base64.b64decode(json.load(answer)["data"][0]["b64_json"])
            with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=10) as answer:
                metrics = answer.read().decode()
        finally:
            demo.send_signal(signal.SIGTERM)

    assert image.startswith(b"\x89PNG")
    assert re.search(r"^image_gateway_images_total\{.*\} 1\.0$", metrics, re.MULTILINE)


def announced(demo: subprocess.Popen[str]) -> tuple[str, str]:
    """Read what the demo prints until base URL, key and a curl line are there."""
    text = ""
    assert demo.stdout is not None
    for line in demo.stdout:
        text += line
        base_url = re.search(r"http://127\.0\.0\.1:\d+/v1", text)
        key = re.search(r"igw_\w+", text)
        if base_url and key and "curl " in text:
            return base_url[0], key[0]
    raise AssertionError(f"the demo ended early: {text}")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
