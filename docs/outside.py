# ruff: noqa: INP001  (mkdocs loads it by its path)
"""Pages of the site that lie outside `docs/`, and links across: a hook of mkdocs."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
OUTSIDE = ("benchmarks/README.md", "deploy/README.md", "CHANGELOG.md", "CONTRIBUTING.md")
PICTURES = ("benchmarks/results/newest.svg",)
_LINK = re.compile(r"\[(?P<label>[^\]]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages from outside, and the pictures in them."""
    for name in (*OUTSIDE, *PICTURES):
        files.append(File.generated(config, name, content=(ROOT / name).read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Let links lead to where a page is on the site; what is no page there, such as a source file, is named alone."""
    here = page.file.src_uri
    repository = here if here in OUTSIDE else f"docs/{here}"

    def led(match: re.Match[str]) -> str:
        if "://" in match["target"] or (match.start() and markdown[match.start() - 1] == "!"):
            return match[0]
        target = posixpath.normpath(posixpath.join(posixpath.dirname(repository), match["target"]))
        name = target.removeprefix("docs/")
        if files.get_file_from_path(name):
            relative = posixpath.relpath(name, posixpath.dirname(here) or ".")
            return f"[{match['label']}]({relative}{match['anchor'] or ''})"
        return match["label"] if (ROOT / target).exists() else match[0]

    return _LINK.sub(led, markdown)
