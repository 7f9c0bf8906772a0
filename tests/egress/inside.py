"""Run in a network namespace of its own, which owns the addresses that must never be called, and listens on them.

Prints one JSON object: what became of each URL, every packet's destination, every connection accepted.
`python -m tests.egress.inside`, as root of an empty namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
from ipaddress import IPv4Address, IPv6Address

from gateway.egress.fetcher import SafeFetcher
from gateway.ports.egress import Unfetchable
from tests.egress.dns import UdpResolver, dns_server
from tests.egress.table import NAMES, REFUSED, TableResolver
from tests.egress.test_urls import guarding

PUBLIC = "93.184.216.34"
OWNED = (
    *("169.254.169.254", "169.254.170.2", "169.254.1.1", "169.254.0.1", "10.0.0.1", "10.255.255.255", "172.16.0.1"),
    *("172.16.5.4", "172.31.255.255", "192.168.0.1", "192.168.1.1", "100.64.0.1", "100.100.100.200", "192.0.0.192"),
    *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "168.63.129.16", "192.88.99.1", "240.0.0.1"),
    *("fd00:ec2::254", "fd20:ce::254", "fd12:3456:789a::1", "fc00::1", "fec0::1", "2001:db8::1", "2002:7f00:1::1"),
    *("64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "100::1", "4000::1", "2606:2800:21f::5efe:a00:1"),
    PUBLIC,
)
OWN_PORT = 9090
PORTS = (80, 8080, 8443, OWN_PORT)
ETH_HEAD, ALL_PROTOCOLS, TCP_OR_UDP = 14, 3, (6, 17)


def own_addresses() -> None:
    """Give the loopback interface every address; one that the kernel will not have is told, not passed over."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in OWNED:
        length = 128 if ":" in address else 32
        nodad = ["nodad"] if ":" in address else []
        done = subprocess.run(["ip", "addr", "add", f"{address}/{length}", "dev", "lo", *nodad], check=False)
        if done.returncode:
            sys.stderr.write(f"not owned: {address}\n")


class Watch(threading.Thread):
    """Notes where every packet of TCP or UDP on the interface is sent to."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.destinations: set[str] = set()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
        self._socket.bind(("lo", 0))

    def run(self) -> None:
        """Read packets for ever."""
        while True:
            packet = self._socket.recv(65_536)
            kind = struct.unpack_from("!H", packet, 12)[0]
            payload = packet[ETH_HEAD:]
            if kind == 0x0800 and payload[9] in TCP_OR_UDP:
                self.destinations.add(str(IPv4Address(payload[16:20])))
            elif kind == 0x86DD and payload[6] in TCP_OR_UDP:
                self.destinations.add(str(IPv6Address(payload[24:40])))


async def main() -> dict[str, object]:
    """Try every URL, a name that changes its address, and redirects; then, as a control, connect by hand."""
    own_addresses()
    watch, accepted = Watch(), []
    watch.start()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer.get_extra_info("sockname")[0])
        line = await reader.readline()
        moved = b"302 Found\r\nLocation: http://169.254.169.254/\r\n" if b"/moved" in line else b"200 OK\r\n"
        writer.write(b"HTTP/1.1 " + moved + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    servers = [
        await asyncio.start_server(accept, host, port, reuse_address=True)
        for port in PORTS
        for host in ("0.0.0.0", "::")
    ]
    names = {**NAMES, "public.example.com": [PUBLIC]}
    guard = guarding(ports=(OWN_PORT,))
    fetcher = SafeFetcher(guard, resolver=TableResolver(names))
    words = [await word_of(fetcher, url) for url, _ in REFUSED]
    called = await word_of(fetcher, "http://public.example.com/")
    moved = await word_of(fetcher, "http://public.example.com/moved")
    own = await word_of(fetcher, f"http://public.example.com:{OWN_PORT}/")
    async with dns_server({"flips.example.com": [PUBLIC, "169.254.169.254"]}, host=PUBLIC) as (_, port):
        changing = SafeFetcher(guard, resolver=UdpResolver(port, host=PUBLIC))
        flips = [await word_of(changing, "http://flips.example.com/") for _ in range(3)]
        await changing.aclose()
    await fetcher.aclose()
    before = {"packets": sorted(watch.destinations), "accepted": sorted(set(accepted))}
    control = await connect_by_hand(watch)
    for server in servers:
        server.close()
    expected = [word for _, word in REFUSED]
    return {
        "tried": len(words),
        "otherwise": [
            (url, word) for (url, _), word, want in zip(REFUSED, words, expected, strict=True) if word != want
        ],
        "called": called,
        "moved": moved,
        "own": own,
        "flips": flips,
        "control": control,
        **before,
    }


async def word_of(fetcher: SafeFetcher, url: str) -> str:
    """The word of the refusal, or the status."""
    try:
        fetched = await fetcher.get(url, seconds=20, limit=1000)
    except Unfetchable as refused:
        return refused.reason
    await fetched.aclose()
    return str(fetched.status)


async def connect_by_hand(watch: Watch) -> list[str]:
    """Connect to addresses without any guard, and return those whose packets were seen: that the watch sees them."""
    found: list[str] = []
    for address in ("169.254.169.254", "10.0.0.1", "127.0.0.1", "fd00:ec2::254"):
        _, writer = await asyncio.open_connection(address, 80)
        writer.close()
        for _ in range(500):
            if address in watch.destinations:
                found.append(address)
                break
            await asyncio.sleep(0.01)
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main())))
