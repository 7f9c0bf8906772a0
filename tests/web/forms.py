"""Multipart forms written and read by hand, independent of any library that the gateway uses."""

from __future__ import annotations

import re
from email.message import Message
from typing import NamedTuple


class Item(NamedTuple):
    """One part of a form."""

    name: str
    content: bytes
    filename: str | None = None
    content_type: str | None = None


def write_form(items: list[Item], boundary: str = "b0undary") -> bytes:
    """Encode parts as browsers and SDKs do."""
    lines = bytearray()
    for item in items:
        lines += f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(item.name)}"'.encode()
        if item.filename is not None:
            lines += f'; filename="{_quoted(item.filename)}"'.encode()
        if item.content_type is not None:
            lines += f"\r\nContent-Type: {item.content_type}".encode()
        lines += b"\r\n\r\n" + item.content + b"\r\n"
    return bytes(lines) + f"--{boundary}--\r\n".encode()


def read_form(content_type: str, body: bytes) -> list[Item]:
    """Decode a form whose boundary is known not to occur in any part."""
    boundary = content_type.partition("boundary=")[2].encode()
    opening, *sections, closing = (b"\r\n" + body).split(b"\r\n--" + boundary)
    assert (opening, closing) == (b"", b"--\r\n")
    return [_read_section(section) for section in sections]


def _read_section(section: bytes) -> Item:
    head, _, content = section.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    headers = Message()
    for line in head.decode().split("\r\n"):
        name, _, value = line.partition(": ")
        assert name not in headers
        headers[name] = value
    disposition = headers["Content-Disposition"]
    return Item(
        _parameter(disposition, "name") or "", content, _parameter(disposition, "filename"), headers["Content-Type"]
    )


def _parameter(disposition: str, name: str) -> str | None:
    found = re.search(rf'; {name}="((?:[^"\\]|\\.)*)"', disposition)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else None


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
