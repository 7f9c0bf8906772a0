"""Image recipe, compose file and systemd unit: judged by their own tools, their steps carried out here."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import venv
from pathlib import Path

import pytest
import yaml

from gateway import __version__
from gateway.sandbox.server import running_sandbox
from tests.deploy.queries import DEPLOY, ROOT
from tests.deploy.tools import tool
from tests.e2e.policies import tight
from tests.e2e.stack import wait_until
from tests.ports import free_port

DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose" / "compose.yaml"
UNIT = DEPLOY / "systemd" / "image-gateway.service"
SECRETS = dict.fromkeys(
    ("IMAGE_GATEWAY_PEPPER", "IMAGE_GATEWAY_ADMIN_TOKEN", "OPENAI_API_KEY", "GRAFANA_PASSWORD"),
    "a-secret-of-some-length",
)
SHOW_METRICS = """
from gateway.observe.scrape import Snapshot, new_registry, render_metrics

print(render_metrics(new_registry(), Snapshot())[0].decode())
"""
MOST_EXPOSED = 2.0
"""Of 10, by systemd's own reckoning; below 2 is its best class but one."""


def shell(text: str) -> list[str]:
    """The commands of the recipe's RUN lines, in order."""
    joined = text.replace("\\\n", " ")
    runs = re.findall(r"^RUN (.*)$", joined, re.MULTILINE)
    return [" ".join(part.split()) for run in runs for part in run.split("&&")]


def test_hadolint_finds_nothing() -> None:
    """The recipe breaks none of hadolint's rules."""
    done = subprocess.run([tool("hadolint"), DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def test_the_image_is_locked_small_and_not_root() -> None:
    """Bases have tags, packages hashes, the user a number; only what is built is copied, and the version is ours."""
    text = DOCKERFILE.read_text()
    final = text[text.rindex("\nFROM ") :]
    installs = [command for command in shell(text) if " install " in command and "pip" in command]

    assert re.search(r"^ARG PYTHON=3\.\d+-slim-\w+$", text, re.MULTILINE)
    assert all("--require-hashes" in each or "--no-index" in each for each in installs)
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert re.findall(r"^(?:COPY|ADD) .*$", final, re.MULTILINE) == ["COPY --from=build /app /app"]
    assert f"ARG VERSION={__version__}\n" in final
    copied = {word for line in re.findall(r"^COPY ([^-].*) \S+$", text, re.MULTILINE) for word in line.split()}
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_recipe_s_steps_make_a_gateway_that_serves(tmp_path: Path) -> None:
    """Carried out in a plain folder, the recipe's own commands leave a prefix without pip that serves an image."""
    source, build, app, dist = (tmp_path / name for name in ("src", "build", "app", "dist"))
    source.mkdir()
    for name in ("requirements.txt", "requirements-build.txt", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("gateway", "policies"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = DOCKERFILE.read_text()
    commands = shell(text[: text.rindex("\nFROM ")])
    places = {"/build": build, "/app": app, "/dist": dist}
    for command in commands:
        line = re.sub(r"(?<![\w.])/(build|app|dist)\b", lambda found: str(places[found[0]]), command)
        line = re.sub(r"^python ", f"{sys.executable} ", line)
        if line.startswith(f"{sys.executable} -m venv {build}"):
            venv.create(build, with_pip=True)  # some distributions' own `-m venv` lacks pip
            continue
        done = subprocess.run(line, shell=True, cwd=source, capture_output=True, text=True, timeout=300, check=False)  # noqa: S602 - the recipe's own lines
        assert done.returncode == 0, (line, done.stderr[-2000:])

    assert not list(app.glob("bin/pip*"))
    assert not list(app.rglob("site-packages/pip"))
    assert not list(app.rglob("*.egg-link"))
    told = subprocess.run([app / "bin" / "image-gateway", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in told.stdout
    _serves(app / "bin", text, tmp_path)


def _serves(bin_: Path, recipe: str, work: Path) -> None:
    """Serve with the recipe's variables, make an image, and pass its health check."""
    port, admin = free_port(), free_port()
    policy = work / "policy"
    policy.mkdir()
    (policy / "policy.yaml").write_text(tight("1"))
    with running_sandbox() as sandbox:
        env = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "IMAGE_GATEWAY_DATA": str(work / "data"),
            "IMAGE_GATEWAY_POLICY": str(policy),
            "IMAGE_GATEWAY_PORT": str(port),
            "IMAGE_GATEWAY_ADMIN_PORT": str(admin),
            "IMAGE_GATEWAY_STORE_TIMEOUT": "1",
            "IMAGE_GATEWAY_ADMIN_TOKEN": "a-secret-of-some-length",
            "SANDBOX_URL": sandbox.url,
            "SANDBOX_KEY": sandbox.api_key,
        }
        [check] = re.findall(r"^\s+CMD (\[.*\])$", recipe, re.MULTILINE)

        def healthy() -> bool:
            return not subprocess.run(
                json.loads(check), env=env, capture_output=True, timeout=30, check=False
            ).returncode

        assert not healthy()
        with subprocess.Popen([bin_ / "image-gateway", "serve"], env=env, cwd=work) as process:
            try:
                wait_until(healthy, 60, "the health check")
                key = subprocess.run(
                    [bin_ / "image-gateway", "keys", "create", "--project", "team"],
                    env=env,
                    capture_output=True,
                    text=True,
                    check=True,
                ).stdout.strip()
                request = urllib.request.Request(
                    f"http://127.0.0.1:{port}/v1/images/generations",
                    json.dumps({"prompt": "a lighthouse"}).encode(),
                    {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
                )
                with urllib.request.urlopen(request, timeout=60) as answer:
                    image = base64.b64decode(json.load(answer)["data"][0]["b64_json"])
            finally:
                process.terminate()
    assert image.startswith(b"\x89PNG")
    assert process.returncode == 0


def test_the_compose_file_is_whole() -> None:
    """What it mounts exists, images have tags; data plane, console and Grafana are published, to this machine alone."""
    read = yaml.safe_load(COMPOSE.read_text())
    services = read["services"]
    for name, service in services.items():
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[0]
            assert source in read["volumes"] or (COMPOSE.parent / source).exists(), (name, volume)
        assert re.search(r":[\w.-]*\d[\w.-]*$", service["image"]), service["image"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert {name for name, service in services.items() if "ports" in service} == {"gateway", "grafana"}
    assert services["gateway"]["image"] == f"image-gateway:{__version__}"
    store = services["store"]["command"]
    assert store[store.index("--appendfsync") + 1] == "always"
    command = services["gateway"]["command"]
    waits = sum(float(command[command.index(option) + 1]) for option in ("--grace", "--shutdown-delay"))
    assert int(services["gateway"]["stop_grace_period"].removesuffix("s")) >= waits + 30  # as docs/deployment.md says
    told = set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    assert told == SECRETS.keys()
    assert told <= set(re.findall(r"^(\w+)=$", (COMPOSE.parent / "env.example").read_text(), re.MULTILINE))


def test_compose_itself_reads_the_file() -> None:
    """The real docker compose accepts it, and names what is missing where a secret is."""
    command = [tool("docker-compose"), "--file", str(COMPOSE), "config", "--quiet"]
    env = {"PATH": os.environ["PATH"]}
    good = subprocess.run(command, env=env | SECRETS, capture_output=True, text=True, timeout=60, check=False)
    assert good.returncode == 0, good.stderr
    bad = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert bad.returncode != 0
    assert any(name in bad.stderr for name in SECRETS)


def test_compose_hands_further_variables_on(tmp_path: Path) -> None:
    """What a policy of one's own names stands in a file beside the compose file, which need not be there."""
    shutil.copy(COMPOSE, tmp_path)
    command = [tool("docker-compose"), "--file", str(tmp_path / COMPOSE.name), "config", "--format", "json"]

    def environment() -> dict[str, str]:
        done = subprocess.run(
            command, env=SECRETS | {"PATH": os.environ["PATH"]}, capture_output=True, text=True, timeout=60, check=True
        )
        found: dict[str, str] = json.loads(done.stdout)["services"]["gateway"]["environment"]
        return found

    before = environment()
    (tmp_path / "gateway.env").write_text("# more\nEVOLINK_API_KEY=sk-more\nIMAGE_GATEWAY_STORE=redis://elsewhere\n")
    assert environment() == {**before, "EVOLINK_API_KEY": "sk-more"}  # the file's own variables stay what they are


def test_systemd_takes_the_unit_and_finds_it_confined(tmp_path: Path) -> None:
    """systemd-analyze verifies the unit, and its exposure score stays low."""
    analyze = tool("systemd-analyze")
    program = tmp_path / "image-gateway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/image-gateway/bin/image-gateway", str(program)))
    verified = subprocess.run(
        [analyze, "verify", "--man=no", unit], capture_output=True, text=True, timeout=60, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", judged.stdout)
    assert score is not None, judged.stderr
    assert float(score[1]) <= MOST_EXPOSED


def test_the_shipped_policy_takes_its_key_as_the_unit_hands_it_on(tmp_path: Path) -> None:
    """The two steps of docs/deployment.md that put it in place leave a policy that reads systemd's file."""
    steps = re.findall(r"^(?:cp policies|sed -i).*$", (ROOT / "docs" / "deployment.md").read_text(), re.MULTILINE)
    assert len(steps) == 2
    lines = "\n".join(steps).replace("/etc/image-gateway/policy", str(tmp_path))
    subprocess.run(["sh", "-e"], input=lines, cwd=ROOT, text=True, timeout=60, check=True)
    [credential] = re.findall(r"^LoadCredential=(\w+):", UNIT.read_text(), re.MULTILINE)

    providers = yaml.safe_load((tmp_path / "providers.yaml").read_text())["providers"]
    assert providers["openai"]["api_key"] == f"${{file:/run/credentials/{UNIT.name}/{credential}}}"
    assert "${OPENAI_API_KEY}" not in "".join(path.read_text() for path in tmp_path.glob("*.yaml"))


def test_the_unit_leaves_the_gateway_its_process_metrics() -> None:
    """In a /proc as systemd mounts it for the unit, memory, time and open files are still known."""
    settings = {"ProtectProc=invisible": "hidepid=2", "ProcSubset=pid": "subset=pid"}
    options = ",".join(option for line, option in settings.items() if line in UNIT.read_text().splitlines())
    mount = [tool("unshare"), "--mount", "--", "sh", "-c", 'mount -t proc -o "$0" proc /proc && exec "$@"', options]
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount anything")
    shown = subprocess.run(
        [*mount, sys.executable, "-c", SHOW_METRICS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout

    for name in ("process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"):
        assert re.search(rf"^{name} ", shown, re.MULTILINE)


def test_the_unit_gives_time_to_stop() -> None:
    """systemd waits longer than the grace that the unit sets."""
    text = UNIT.read_text()
    grace, patience = (
        int(found)
        for pattern in (r"IMAGE_GATEWAY_GRACE=(\d+)", r"TimeoutStopSec=(\d+)s")
        for found in re.findall(pattern, text)
    )
    assert patience >= grace + 30
    assert "Type=notify" in text
