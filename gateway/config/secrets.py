"""Secrets and endpoints from outside the policy: `${NAME}` of the environment and `${file:/path}`.

No message ever holds a value, only the name it was looked for under.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.documents import Kind, Node, Value
from gateway.config.problems import Place, Report
from gateway.domain.route import Secret
from gateway.domain.web_address import BadUrl, read_web_address

_REFERENCE = re.compile(r"\$\{(?:file:(?P<path>/[^${}]+)|(?P<name>[A-Za-z_][A-Za-z0-9_]*))\}", re.ASCII)
_MAX_SECRET_BYTES = 64 * 1024
_ENDPOINT = re.compile(r"/images/(?:generations|edits|variations)/*\Z")
_REMEDY = 'write "${NAME}" to read an environment variable, or "${file:/path}" to read a file'


def files_named(text: str) -> set[str]:
    """Return the path of each `${file:/path}` in the text of a policy file."""
    return {each["path"] for each in _REFERENCE.finditer(text) if each["path"]}


@dataclass(frozen=True, slots=True)
class SecretSources:
    """Where values come from. A missing one is a problem when `required`, otherwise a warning."""

    environ: Mapping[str, str]
    required: bool

    def secret(self, node: Node, report: Report) -> Secret | None:
        """Read a whole value from outside; None if it is written out (which is refused) or missing."""
        if not isinstance(node, Value) or node.kind not in {Kind.WORD, Kind.QUOTED}:
            report.problem(node.place, f"must be text: {_REMEDY}")
            return None
        reference = _REFERENCE.fullmatch(node.text)
        if reference is None:
            wrong = _reference_problem(node.text) or f"a secret must not stand in a policy file; {_REMEDY}"
            report.problem(node.place, wrong)
            return None
        value = self._value(reference, node.place, report)
        if value is not None and not (value.isascii() and value.isprintable() and " " not in value):
            report.problem(node.place, f"the value of {reference[0]} has blanks or other than printable ASCII in it")
            return None
        return None if value is None else Secret(value)

    def base_url(self, node: Node, report: Report) -> str | None:
        """Read an http(s) URL, parts of which may come from outside; left as written where one of them is missing."""
        if not isinstance(node, Value) or node.kind not in {Kind.WORD, Kind.QUOTED}:
            report.problem(node.place, "must be text: a URL such as https://api.example.com/v1")
            return None
        whole = node.text
        for reference in _REFERENCE.finditer(node.text):
            value = self._value(reference, node.place, report)
            if value is None:
                return node.text
            whole = whole.replace(reference[0], value)
        if wrong := _url_problem(whole):
            report.problem(node.place, f"must be a URL such as https://api.example.com/v1: {wrong}")
            return None
        return whole.rstrip("/")

    def _value(self, reference: re.Match[str], place: Place, report: Report) -> str | None:
        try:
            if path := reference["path"]:
                return _file_content(Path(path), place, report)
            return _variable(self.environ, reference["name"])
        except _Missing as missing:
            if self.required:
                report.problem(place, str(missing))
            else:
                report.warn(place, str(missing))
            return None


def _reference_problem(text: str) -> str | None:
    """Say what is wrong with what was meant as a reference. None of it is shown: a default in it may be a secret."""
    if not (text.startswith("${") and text.endswith("}")):
        return None
    if text.startswith("${file:"):
        return "the path of a file must begin with /, and hold none of $ { }: ${file:/path}"
    return "a variable is ${NAME}: letters, digits and _ alone, and no default"


class _Missing(Exception):
    """A value from outside is not there; the message names it."""


def _variable(environ: Mapping[str, str], name: str) -> str:
    if not (value := environ.get(name)):
        raise _Missing(f"environment variable {name} is not set")
    return value


def _file_content(path: Path, place: Place, report: Report) -> str:
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise _Missing(f"{path} is not a regular file")
        with path.open("rb") as file:
            data = file.read(_MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        raise _Missing(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not a path'}") from None
    if len(data) > _MAX_SECRET_BYTES:
        raise _Missing(f"{path} is larger than a secret can be")
    if not (value := data.decode("utf-8", "replace").rstrip("\r\n")):
        raise _Missing(f"{path} is empty")
    if mode & stat.S_IROTH:
        report.warn(place, f"{path} can be read by everybody on this machine; chmod 640")
    return value


def _url_problem(url: str) -> str | None:
    """Say what is wrong with a base URL, without showing it: parts of it may come from outside."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return "only printable ASCII, no blanks"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "host or port cannot be read"
    endpoint = _ENDPOINT.search(parts.path)
    rules = (
        ("${" in url, "a variable is ${NAME} or ${file:/path}"),
        (parts.scheme not in {"http", "https"}, "it starts with https:// or http://"),
        (not parts.hostname or port == 0, "it needs a host"),
        ("@" in parts.netloc, "no user or password in it; use api_key"),
        ("?" in url or "#" in url, "no query string and no fragment"),
        (endpoint is not None, f"leave out {endpoint[0].rstrip('/') if endpoint else ''}, which is added to it"),
    )
    return next((problem for broken, problem in rules if broken), None) or _address_problem(url)


def _address_problem(url: str) -> str | None:
    """Say why no connection could be opened to what a URL names."""
    try:
        read_web_address(url)
    except BadUrl as bad:
        return bad.message
    return None
