"""What is forked for a test ends as what is started anew."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import processes

ANEW = {**os.environ, "TZ": "UTC0"}
"""An environment with which a process is not forked."""


@pytest.mark.parametrize("environ", [os.environ, ANEW])
def test_a_command_has_its_arguments_its_folder_and_its_environment(environ: Mapping[str, str], tmp_path: Path) -> None:
    """As a shell would give them; what it says goes where it should, and its status is its own."""
    (tmp_path / "rules").mkdir()
    done = processes.run("check", "rules", environ={**environ, "COLUMNS": "200"}, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "1 problem found.\n")
    assert done.stdout.startswith("rules:1: holds no policy")
    listed = processes.run("keys", "list", environ={**environ, "IMAGE_GATEWAY_DATA": "by-variable"}, cwd=tmp_path)
    assert (listed.returncode, "by-variable" in listed.stderr) == (1, True)


@pytest.mark.parametrize("environ", [os.environ, ANEW])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_process_is_ended_by_signals(environ: Mapping[str, str], number: signal.Signals, status: int) -> None:
    """It runs until then, and is looked at and waited for as any other."""
    with tempfile.NamedTemporaryFile() as output:
        process = processes.start("sandbox", "--port", "0", environ=environ, output=output.file)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
        assert process.poll() is None
        while not Path(output.name).read_bytes():
            assert process.poll() is None
        process.send_signal(number)
        assert process.wait(60) == process.poll() == process.returncode == status
        process.kill()
