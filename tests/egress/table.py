"""The table of URLs, and a resolver that answers from it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gateway.http1.resolving import Address, Addresses

TABLE: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "urls.yaml").read_text())
NAMES: Mapping[str, Sequence[str]] = TABLE["names"]
REFUSED: Sequence[tuple[str, str]] = [(url, word) for word, urls in TABLE["refused"].items() for url in urls]
CALLED: Sequence[str] = TABLE["called"]


class TableResolver:
    """Answers from a table, or says that there is no such name, as the system's resolver would; counts lookups."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self.lookups: list[str] = []

    async def resolve(self, host: str, port: int) -> Addresses:
        """Return what the table says, a name's several addresses in their order."""
        self.lookups.append(host)
        if host not in self._names:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [resolved(address, port) for address in self._names[host]]

    def close(self) -> None:
        """Nothing is open."""


def resolved(address: str, port: int) -> tuple[int, int, int, str, Address]:
    """One answer; the family is that of the address, where it is one."""
    where: Address = (address, port, 0, 0) if ":" in address else (address, port)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where
