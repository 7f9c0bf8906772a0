"""Shell completion, asked for by a real shell where there is one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.command import environ, within

BASH, FISH, ZSH = shutil.which("bash"), shutil.which("fish"), shutil.which("zsh")
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

FISH_SCRIPT = """
image-gateway completion fish | source
for line in "ledger ex" "spend --format "
    complete -C "image-gateway $line" | string replace -r "\\t.*" "" | string join " "
end
true
"""
ZSH_SCRIPT = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'autoload -U compinit && compinit -u -d completions && eval "$(image-gateway completion zsh)"'
zpty -w shell 'tell() { print -r -- "$BUFFER" >> typed; BUFFER=; print "SAID""SO" }; zle -N tell; bindkey "^X" tell'
zpty -w shell 'print "READY""NOW"'
zpty -r -m shell said "*READYNOW*"
for line in "ledger ex" "spend --format t"; do
    zpty -w -n shell "image-gateway $line"$'\\t\\x18'
    zpty -r -m shell said "*SAIDSO*"
done
cat typed
"""
"""A shell on a terminal of its own, in which Tab is pressed; ^X then has it tell what stands in its line."""


def answered(directory: Path, *command: str) -> list[str]:
    """What a shell prints that finds the program in `directory`; it must not complain."""
    (directory / "image-gateway").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m gateway "$@"\n')
    (directory / "image-gateway").chmod(0o755)
    own = {"PATH": f"{directory}:{os.environ['PATH']}", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command,
        cwd=directory,
        env=environ({**own, "HOME": str(directory)}),
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.skipif(BASH is None, reason="no bash here")
def test_bash_completes(tmp_path: Path) -> None:
    """Bash takes the script, and then completes commands, and the values of options."""
    assert answered(tmp_path, str(BASH), "--norc", "-c", SCRIPT) == [
        "complete -o nosort -F _image_gateway_completion image-gateway",
        "export",
        "table csv json",
    ]


@pytest.mark.skipif(FISH is None, reason="no fish here")
def test_fish_completes(tmp_path: Path) -> None:
    """Fish takes the script, and then completes commands, and the values of options."""
    told = answered(tmp_path, str(FISH), "--no-config", "-c", FISH_SCRIPT)

    assert told == ["export", "csv json table"]


@pytest.mark.skipif(ZSH is None, reason="no zsh here")
def test_zsh_completes(tmp_path: Path) -> None:
    """Zsh takes the script, and then Tab on a terminal completes commands, and the values of options."""
    told = answered(tmp_path, str(ZSH), "-f", "-c", ZSH_SCRIPT)

    assert [line.strip() for line in told] == ["image-gateway ledger export", "image-gateway spend --format table"]


@pytest.mark.parametrize(
    ("shell", "line"),
    [("zsh", "#compdef image-gateway"), ("fish", "complete --no-files --command image-gateway")],
)
def test_other_shells_get_a_script_of_theirs(shell: str, line: str) -> None:
    """Each shell's script is for this program, and asks it by the variable that it knows."""
    done = within("completion", shell)

    assert (done.exit_code, line in done.stdout) == (0, True)
    assert f"_IMAGE_GATEWAY_COMPLETE={shell}_complete" in done.stdout
