"""The table of URLs, and a resolver that answers from it."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml
from aiohttp.abc import AbstractResolver, ResolveResult

TABLE: Mapping[str, Any] = yaml.safe_load((Path(__file__).parent / "urls.yaml").read_text())
NAMES: Mapping[str, Sequence[str]] = TABLE["names"]
REFUSED: Sequence[tuple[str, str]] = [(url, word) for word, urls in TABLE["refused"].items() for url in urls]
CALLED: Sequence[str] = TABLE["called"]


class TableResolver(AbstractResolver):
    """Answers from a table, or says that there is no such name, as the system's resolver would; counts lookups."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self.lookups: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return what the table says, a name's several addresses in their order."""
        self.lookups.append(host)
        if host not in self._names:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [resolved(host, address, port, family) for address in self._names[host]]

    async def close(self) -> None:
        """Nothing is open."""


def resolved(host: str, address: str, port: int, family: socket.AddressFamily) -> ResolveResult:
    """One answer; the family is that of the address, where it is one."""
    try:
        plain = ip_address(address)
        family = socket.AF_INET if plain.version == 4 else socket.AF_INET6
    except ValueError:
        pass  # what no resolver should say goes through as it is
    return ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)
