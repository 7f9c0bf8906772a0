"""Shell completion, asked for by a real shell where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import environ, within

BASH = shutil.which("bash")
SCRIPT = """
eval "$(image-gateway completion bash)"
complete -p image-gateway
ask() {
    COMPREPLY=() COMP_WORDS=(image-gateway "$@") COMP_CWORD=$#
    _image_gateway_completion image-gateway
    echo "${COMPREPLY[@]}"
}
ask ledger ex
ask spend --format ""
"""


@pytest.mark.skipif(BASH is None, reason="no bash here")
def test_bash_completes(tmp_path: Path) -> None:
    """Bash takes the script, and then completes commands, and the values of options."""
    (tmp_path / "image-gateway").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway "$@"\n')
    (tmp_path / "image-gateway").chmod(0o755)
    done = subprocess.run(
        [str(BASH), "--norc", "-c", SCRIPT],
        env=environ({"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _image_gateway_completion image-gateway",
        "export",
        "table csv json",
    ]


@pytest.mark.parametrize(
    ("shell", "line"),
    [("zsh", "#compdef image-gateway"), ("fish", "complete --no-files --command image-gateway")],
)
def test_other_shells_get_a_script_of_theirs(shell: str, line: str) -> None:
    """Each shell's script is for this program, and asks it by the variable that it knows."""
    done = within("completion", shell)

    assert (done.exit_code, line in done.stdout) == (0, True)
    assert f"_IMAGE_GATEWAY_COMPLETE={shell}_complete" in done.stdout
