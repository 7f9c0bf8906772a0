"""The demo as a newcomer meets it: one command in an empty directory, and what it prints works as printed."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import httpx
import psutil
import pytest
from openai import OpenAI
from PIL import Image

from tests.cli.command import interruptible
from tests.e2e.stack import wait_until

COMMAND = Path(sys.executable).parent / "image-gateway"
WELCOME_ENDS = "Ctrl-C stops it."


@dataclass
class Demo:
    """A running demo and what it printed."""

    process: subprocess.Popen[str]
    words: str
    home: Path
    environ: dict[str, str]

    def printed(self, pattern: str) -> str:
        """The first thing printed that looks like this."""
        found = re.search(pattern, self.words, re.MULTILINE)
        assert found is not None, self.words
        return found[1]

    def shell(self, line: str) -> str:
        """Run a printed line verbatim in a shell, elsewhere than where the demo was started."""
        done = subprocess.run(
            ["sh", "-c", line],
            cwd="/",
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout


@pytest.fixture
def demo(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Demo]:
    """A demo on free ports in an empty directory, with a home of its own; further options are the test's parameter."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("IMAGE_GATEWAY_")}
    environ = {**kept, "HOME": str(tmp_path), "XDG_DATA_HOME": "", "COLUMNS": "200"}
    ports = [f"--{name}port=0" for name in ("", "admin-", "sandbox-")]
    options = getattr(request, "param", [])
    with interruptible():
        started = subprocess.Popen(
            [COMMAND, "demo", *ports, *options],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    with started as process:
        try:
            assert process.stdout is not None
            words = ""
            for line in process.stdout:
                words += line
                if line.startswith(WELCOME_ENDS):
                    break
            yield Demo(process, words, tmp_path, environ)
        finally:
            if process.poll() is None:
                process.terminate()


def left_behind(home: Path) -> list[str]:
    """Processes that work in the demo's home."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(home) in process.cwd() and process.pid != os.getpid():
                found.append(f"{process.pid} {process.name()}")
        except psutil.Error:
            continue  # ended meanwhile, or somebody else's
    return found


def test_the_printed_lines_work(demo: Demo) -> None:
    """The curl line returns an image, metrics and the spend command show what it cost, and the console is there.

    Where a real gateway's books would lie there is nothing.
    """
    answer = json.loads(demo.shell(demo.printed(r"^  (curl .*/images/generations .*)$")))
    picture = Image.open(io.BytesIO(base64.b64decode(answer["data"][0]["b64_json"])))
    metrics = demo.shell(demo.printed(r"^  (curl .*/metrics \| grep .*)$"))
    command = demo.printed(r"^  (\S*image-gateway spend.*)$")
    report = json.loads(demo.shell(f"{command} --format json"))
    bill = json.loads(demo.shell(f"curl -s {demo.printed(r'the bill +(http.*)$')}"))

    assert picture.size == (1024, 1024)
    assert "<title>Image Gateway</title>" in demo.shell(f"curl -s {demo.printed(r'console +(http.*)$')}")
    spent = {
        view: float(usd)
        for view, usd in re.findall(r'^image_gateway_spend_usd_total\{.*view="(\w+)"\} (.*)$', metrics, re.MULTILINE)
    }
    assert set(spent) == {"official", "route", "internal"}
    assert report["total"]["images"] == 1
    assert float(report["total"]["route_usd"]) == spent["route"] == float(bill["total_usd"]) > 0
    assert report["total"]["route_usd"] in demo.shell(command)
    assert report["total"]["route_usd"] in demo.shell(f"{command.split(' ', 1)[0]} spend")  # there is no other store
    assert [each.name for each in (demo.home / ".local/share").iterdir()] == ["image-gateway-demo"]


def test_conversations_are_served(demo: Demo) -> None:
    """The Responses API draws an image for a text model, and the books say what it cost; images go where they went."""
    base = demo.printed(r"(http://127\.0\.0\.1:\d+/v1)")
    with OpenAI(base_url=base, api_key=demo.printed(r"(igw_\w+)"), max_retries=0) as client:
        raw = client.responses.with_raw_response.create(
            model="gpt-5.2", input="a lighthouse", tools=[{"type": "image_generation"}]
        )
        drawn = [item for item in raw.parse().output if item.type == "image_generation_call"]
        assert Image.open(io.BytesIO(base64.b64decode(drawn[0].result or ""))).size == (1024, 1024)
        assert raw.headers["x-gateway-job-type"] == "creative_iteration"
        cost = client.get(f"/requests/{raw.headers['x-request-id']}", cast_to=httpx.Response).json()["cost"]
        assert Decimal(cost["route"]) > Decimal("0.005")
        for quality, job_type in (("auto", "creative_iteration"), ("high", "hero_image")):
            asked = {"quality": quality}
            made = client.images.with_raw_response.generate(prompt="a boat", extra_body=asked)
            assert made.headers["x-gateway-job-type"] == job_type


@pytest.mark.parametrize("demo", [["--data", "play money", "--realm", "other"]], indirect=True)
def test_the_printed_lines_name_the_store_in_use(demo: Demo) -> None:
    """The spend command finds what was spent in another directory and realm, and can be typed as it stands."""
    demo.shell(demo.printed(r"^  (curl .*/images/generations .*)$"))
    report = json.loads(demo.shell(f"{demo.printed(r'^  (.*image-gateway spend.*)$')} --format json"))
    assert report["total"]["images"] == 1


def test_a_link_is_an_input_image(demo: Demo) -> None:
    """What was made is edited by its link, as it came in the answer."""
    base, key = demo.printed(r"base URL +(\S+)"), demo.printed(r"API key +(\S+)")
    with OpenAI(base_url=base, api_key=key, max_retries=0) as client:
        made = client.images.generate(prompt="a red bicycle", quality="low", response_format="url")
        edit = {"prompt": "a blue one", "images": [{"image_url": (made.data or [])[0].url}], "quality": "low"}
        assert client.post("/images/edits", body=edit, cast_to=dict[str, object])["data"]


def test_a_client_library_is_pointed_at_it(demo: Demo) -> None:
    """Base URL and key as printed are all that the OpenAI SDK needs; the record tells the cost."""
    base, key = demo.printed(r"base URL +(\S+)"), demo.printed(r"API key +(\S+)")
    with OpenAI(base_url=base, api_key=key, max_retries=0) as client:
        raw = client.images.with_raw_response.generate(model="gpt-image-2", prompt="a red bicycle", size="1024x1024")
    record = json.loads(
        demo.shell(f'curl -s {base}/requests/{raw.headers["x-request-id"]} -H "Authorization: Bearer {key}"')
    )

    assert raw.parse().data
    assert record["state"] == "settled"
    assert float(record["cost"]["route"]) > 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_ends_everything(demo: Demo, how: signal.Signals) -> None:
    """Gateway, sandbox, store and key end with the command, with status 0 and without a word.

    So they do with the terminal.
    """
    assert wait_until(lambda: left_behind(demo.home), what="a store in the demo's home")
    demo.process.send_signal(how)

    assert demo.process.wait(timeout=60) == 0
    assert demo.process.stderr is not None
    assert demo.process.stderr.read() == ""
    assert wait_until(lambda: not left_behind(demo.home), what="the end of every process")
    data = demo.home / ".local/share/image-gateway-demo"
    [key] = json.loads(demo.shell(shlex.join([str(COMMAND), "keys", "list", "--data", str(data), "--json"])))
    assert key["state"] != "live"


def test_a_second_demo_keeps_what_was_spent(demo: Demo) -> None:
    """Started again the demo has a new key, the old one ends, and the spend is still there."""
    demo.shell(demo.printed(r"^  (curl .*/images/generations .*)$"))
    first = demo.printed(r"API key +(\S+)")
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(timeout=60) == 0
    ports = [f"--{name}port=0" for name in ("", "admin-", "sandbox-")]
    with subprocess.Popen(
        [COMMAND, "demo", *ports], cwd=demo.home, env=demo.environ, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words = "".join(iter(process.stdout.readline, f"{WELCOME_ENDS}\n"))
        again = Demo(process, words, demo.home, demo.environ)
        line = again.printed(r"^  (curl .*/images/generations .*)$")
        refused = json.loads(again.shell(line.replace(again.printed(r"API key +(\S+)"), first)))
        report = json.loads(again.shell(f"{again.printed(r'^  (.*image-gateway spend.*)$')} --format json"))
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0

    assert refused["error"]["code"] == "invalid_api_key"
    assert report["total"]["images"] == 1
