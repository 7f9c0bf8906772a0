"""In a network that really has the forbidden addresses, with somebody listening on each, no packet reaches one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.egress.inside import PUBLIC
from tests.egress.table import REFUSED

ROOT = Path(__file__).parents[2]


def namespace() -> list[str]:
    """The command that runs another in a network of its own; skips where this machine does not permit it."""
    unshare, ip = shutil.which("unshare"), shutil.which("ip")
    if unshare is None or ip is None:
        pytest.skip("needs the commands unshare and ip")
    command = [unshare, "--net", "--"]
    if subprocess.run([*command, ip, "link", "set", "lo", "up"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make network namespaces")
    return command


def test_no_packet_reaches_a_forbidden_address() -> None:
    """All URLs, redirects and a name that changes its address lead to the public address alone, or nowhere."""
    command = [*namespace(), sys.executable, "-m", "tests.egress.inside"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert found["control"] == ["169.254.169.254", "10.0.0.1", "127.0.0.1", "fd00:ec2::254"]
    assert found["tried"] == len(REFUSED)
    assert found["otherwise"] == []
    assert (found["called"], found["moved"], found["own"]) == ("200", "address", "own")
    assert found["flips"] == ["200", "address", "address"]
    assert set(found["packets"]) == {PUBLIC}
    assert set(found["accepted"]) == {PUBLIC}
