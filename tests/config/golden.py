"""Golden policies, and the lines that checking them must print; `python -m tests.config.golden` writes those anew.

In `policies/` a file holds the input, a line `----`, and the lines. In `mistakes/` `NAME.yaml` is the input, `NAME.txt`
the lines.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path

from gateway.config.load import load_policy
from gateway.config.problems import Problem

HERE = Path(__file__).parent
SEPARATOR = "\n----\n"
TODAY = date(2026, 11, 20)


def cases() -> list[Path]:
    """Return every golden policy."""
    return sorted((HERE / "policies").glob("*.yaml")) + sorted((HERE / "mistakes").glob("*.yaml"))


def split(path: Path) -> tuple[str, list[str]]:
    """Return the input and the expected lines of a golden file."""
    text = path.read_bytes().decode()
    if SEPARATOR not in text:
        answer = path.with_suffix(".txt")
        return text, answer.read_text().splitlines() if answer.exists() else []
    given, _, expected = text.rpartition(SEPARATOR)
    return given + "\n", expected.splitlines()


def printed(given: str, directory: Path) -> list[str]:
    """Check the input together with the sound base, and return what concerns the input: `line: key: message`."""
    shutil.copy(HERE / "base" / "base.yaml", directory / "base.yaml")
    file = directory / "policy.yaml"
    file.write_bytes(given.encode())
    loaded = load_policy(directory, environ={"KEY": "k"}, secrets="required", today=TODAY)
    lines = [_line(problem, directory) for problem in loaded.problems if problem.file == str(file)]
    return lines + [f"warning {_line(each, directory)}" for each in loaded.warnings if each.file == str(file)]


def _line(problem: Problem, directory: Path) -> str:
    key = f"{problem.key}: " if problem.key else ""
    return f"{problem.line}: {key}{problem.message}".replace(f"{directory}/", "")


def rewrite() -> Iterator[Path]:
    """Write what is printed now as what is expected, and yield the files that changed; for a person to review."""
    for path in cases():
        given, expected = split(path)
        with tempfile.TemporaryDirectory() as directory:
            lines = printed(given, Path(directory))
        if lines == expected:
            continue
        text = "".join(f"{line}\n" for line in lines)
        if SEPARATOR in path.read_bytes().decode():
            path.write_bytes((given.removesuffix("\n") + SEPARATOR + text).encode())
        else:
            path.with_suffix(".txt").write_text(text)
        yield path


if __name__ == "__main__":
    for changed in rewrite():
        sys.stdout.write(f"{changed.relative_to(HERE)}\n")
