"""Golden policies: a file holds the input, a line `----`, and the lines that checking it must print."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path

from gateway.config.load import load_policy
from gateway.config.problems import Problem

HERE = Path(__file__).parent
SEPARATOR = "\n----\n"
TODAY = date(2026, 11, 20)


def split(path: Path) -> tuple[str, list[str]]:
    """Return the input and the expected lines of a golden file."""
    given, _, expected = path.read_bytes().decode().rpartition(SEPARATOR)
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
