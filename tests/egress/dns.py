"""A small DNS server over UDP whose answers change from one question to the next, and a resolver that asks it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from typing import cast

from gateway.http1.resolving import Addresses
from tests.egress.table import resolved

_HEADER = struct.Struct("!HHHHHH")
_ANSWER = struct.Struct("!HHHIH4s")
_ANSWERED, _NO_SUCH_NAME = 0x8180, 0x8183
_TYPE_A, _CLASS_IN, _TTL, _NAME_AT_12 = 1, 1, 0, 0xC00C


class ChangingNames(asyncio.DatagramProtocol):
    """Answers each question for a name with the next of its addresses, the last one for ever; TTL 0."""

    def __init__(self, names: Mapping[str, Sequence[str]]) -> None:
        self._names = names
        self.asked: Counter[str] = Counter()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are sent over."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # as the loop's own class does not say it is

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question."""
        number = _HEADER.unpack_from(data)[0]
        question, labels, at = data[12:], [], 12
        while length := data[at]:
            labels.append(data[at + 1 : at + 1 + length].decode())
            at += 1 + length
        name = ".".join(labels)
        addresses = self._names.get(name, ())
        found = addresses[min(self.asked[name], len(addresses) - 1)] if addresses else None
        self.asked[name] += 1
        head = _HEADER.pack(number, _ANSWERED if found else _NO_SUCH_NAME, 1, 1 if found else 0, 0, 0)
        answer = _ANSWER.pack(_NAME_AT_12, _TYPE_A, _CLASS_IN, _TTL, 4, IPv4Address(found).packed) if found else b""
        assert self._transport is not None
        self._transport.sendto(head + question + answer, addr)


@asynccontextmanager
async def dns_server(
    names: Mapping[str, Sequence[str]], host: str = "127.0.0.1"
) -> AsyncIterator[tuple[ChangingNames, int]]:
    """A server on a port of its own."""
    transport, names_server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: ChangingNames(names), local_addr=(host, 0)
    )
    try:
        yield names_server, transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


class UdpResolver:
    """Asks a DNS server on this machine anew each time."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._server = (host, port)

    async def resolve(self, host: str, port: int) -> Addresses:
        """Return the A record that the server gives."""
        data = await asyncio.to_thread(self._ask, host)
        if _HEADER.unpack_from(data)[3] == 0:
            raise OSError(socket.EAI_NONAME, "Name or service not known")
        return [resolved(str(IPv4Address(data[-4:])), port)]

    def _ask(self, host: str) -> bytes:
        labels = b"".join(bytes([len(label)]) + label.encode() for label in host.split("."))
        query = _HEADER.pack(1, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", _TYPE_A, _CLASS_IN)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.connect(self._server)
            sock.send(query)
            return sock.recv(512)

    def close(self) -> None:
        """Nothing is open."""
