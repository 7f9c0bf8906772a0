"""Real servers in every formation: alone, a primary with sentinels, a cluster; with passwords and TLS.

They are this machine's redis-server, or else the Valkey server that the embedded store uses (which knows no TLS).
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from gateway.ledger.locate import slot_of
from gateway.ledger.valkey_binary import valkey_binary
from tests.ports import free_port

SERVICE = "mymaster"
DOWN_AFTER = 500
"""Milliseconds after which sentinels and cluster nodes believe that a silent server is down."""


def binary() -> str:
    """The server to start."""
    return shutil.which("redis-server") or shutil.which("valkey-server") or str(valkey_binary())


def knows_tls() -> bool:
    """Whether that server was built with TLS: then it misses the certificate, else it misses TLS."""
    command = [binary(), "--port", "0", "--tls-port", str(free_port())]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return "Failed to configure TLS" in said.stdout


def make_certificates(directory: Path) -> Path:
    """Write `ca.pem`, an `other-ca.pem`, and certificates `server` (for 127.0.0.1) and `client`, by openssl."""
    directory.mkdir(parents=True)
    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "other-ca"):
        _openssl(directory, *new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    signed = (*new, "-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE")
    for name, address in (("server", "IP:127.0.0.1"), ("client", "DNS:gateway")):
        more = ("-addext", f"subjectAltName={address}", "-subj", f"/CN={name}")
        _openssl(directory, *signed, *more, "-keyout", f"{name}.key", "-out", f"{name}.pem")
    return directory


def _openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)


def until(true: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(RedisError, OSError):
            if true():
                return
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


class Server:
    """One server process, killable and restartable, on a port of its own."""

    def __init__(
        self, directory: Path, *settings: str, certificates: Path | None = None, sentinel: bool = False
    ) -> None:
        self.port = free_port()
        self._directory = directory
        self._certificates = certificates
        directory.mkdir(parents=True)
        lines = ["bind 127.0.0.1", "dir .", 'save ""', "logfile server.log", f"port {self.port}"]
        if certificates is not None:
            lines[-1:] = ["port 0", f"tls-port {self.port}", "tls-replication yes", "tls-cluster yes"]
            lines += [f"tls-ca-cert-file {certificates / 'ca.pem'}"]
            lines += [f"tls-cert-file {certificates / 'server.pem'}", f"tls-key-file {certificates / 'server.key'}"]
        lines += settings
        if not sentinel:
            lines += ["appendonly yes", "appendfsync always", "repl-diskless-sync-delay 0"]
        (directory / "server.conf").write_text("\n".join(lines) + "\n")
        self._command = [binary(), "server.conf", *(["--sentinel"] if sentinel else [])]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._process = subprocess.Popen(self._command, cwd=self._directory, stdout=subprocess.DEVNULL)
        until(lambda: self.call("PING"))

    def call(self, *command: str | int) -> Any:
        """Send it one command, past everything that is tested."""
        retry = Retry(NoBackoff(), 0)
        tls: dict[str, Any] = {}
        if self._certificates is not None:
            mine, ca = self._certificates / "client", self._certificates / "ca.pem"
            tls = {"ssl": True, "ssl_ca_certs": str(ca), "ssl_check_hostname": False}
            tls |= {"ssl_certfile": f"{mine}.pem", "ssl_keyfile": f"{mine}.key"}
        with Redis("127.0.0.1", self.port, socket_timeout=5, retry=retry, protocol=2, **tls) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def signal(self, number: int) -> None:
        """Send it a signal; SIGKILL waits for its end."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def kill(self) -> None:
        """End it outright."""
        self.signal(signal.SIGKILL)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it stand still meanwhile, its connections open."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def close(self) -> None:
        """End it if it still runs."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGCONT)
            self.kill()


@contextmanager
def running(*servers: Server) -> Iterator[None]:
    """Run servers meanwhile."""
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.close)
            server.start()
        yield


class Trio:
    """A primary, a replica, and three sentinels that watch over them."""

    def __init__(self, directory: Path) -> None:
        primary = Server(directory / "primary")
        self.servers = [primary, Server(directory / "replica", f"replicaof 127.0.0.1 {primary.port}")]
        watch = [
            f"sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        self.sentinels = [Server(directory / f"sentinel{i}", *watch, sentinel=True) for i in range(3)]

    @property
    def url(self) -> str:
        """What a gateway is given."""
        return f"redis+sentinel://{','.join(f'127.0.0.1:{sentinel.port}' for sentinel in self.sentinels)}/{SERVICE}"

    def primary(self) -> Server:
        """Whoever most sentinels name."""
        named = [int(one.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1]) for one in self.sentinels]
        return next(server for server in self.servers if named.count(server.port) >= 2)

    def rejoin(self, server: Server) -> None:
        """Make a server a replica, which the sentinels would do themselves after ten seconds; wait for all to see."""
        until(lambda: server.call("REPLICAOF", "127.0.0.1", self.primary().port))
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until the sentinels know each other and the replica, which is in step."""
        until(lambda: all(self._sees_all(sentinel) for sentinel in self.sentinels))
        primary, token = self.primary(), secrets.token_hex(8)
        replica = next(server for server in self.servers if server is not primary)
        primary.call("SET", "token", token)
        until(lambda: replica.call("GET", "token") == token.encode())
        until(lambda: b"state=online" in primary.call("INFO", "replication"))

    def _sees_all(self, sentinel: Server) -> bool:
        flat = sentinel.call("SENTINEL", "MASTER", SERVICE)
        known = dict(zip(flat[::2], flat[1::2], strict=True))
        wanted = {b"num-slaves": b"1", b"num-other-sentinels": b"2", b"flags": b"master"}
        return all(known[name] == value for name, value in wanted.items())


@contextmanager
def sentinel_trio(directory: Path) -> Iterator[Trio]:
    """A primary with one replica under three sentinels."""
    trio = Trio(directory)
    with running(*trio.servers, *trio.sentinels):
        trio.wait_until_whole()
        yield trio


class Cluster:
    """Three masters, each with a replica if `replicas`."""

    def __init__(self, directory: Path, *, replicas: bool) -> None:
        settings = (
            "cluster-enabled yes",
            f"cluster-node-timeout {DOWN_AFTER}",
            "cluster-replica-validity-factor 0",
            "repl-ping-replica-period 1",
        )
        self.masters = [Server(directory / f"master{i}", *settings) for i in range(3)]
        self.replicas = [Server(directory / f"replica{i}", *settings) for i in range(3 if replicas else 0)]

    @property
    def nodes(self) -> list[Server]:
        """Everybody."""
        return self.masters + self.replicas

    @property
    def url(self) -> str:
        """What a gateway is given: some of the nodes."""
        return f"redis+cluster://{','.join(f'127.0.0.1:{server.port}' for server in self.masters)}"

    def join(self) -> None:
        """Make a cluster of the nodes."""
        for i, node in enumerate(self.nodes):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            node.call("CLUSTER", "MEET", "127.0.0.1", self.masters[0].port)
        for i, master in enumerate(self.masters):
            master.call("CLUSTER", "ADDSLOTSRANGE", 16384 * i // 3, 16384 * (i + 1) // 3 - 1)
        until(lambda: all(self._knows_all(node) for node in self.nodes))
        for master, replica in zip(self.masters, self.replicas, strict=False):
            until(partial(replica.call, "CLUSTER", "REPLICATE", node_id(master)))
        until(lambda: all(b"master_link_status:up" in each.call("INFO", "replication") for each in self.replicas))
        followed = self.masters[: len(self.replicas)]  # a link that is up may have nothing sent through it yet
        until(lambda: all(b"state=online" in each.call("INFO", "replication") for each in followed))
        until(lambda: all(self._knows_all(node) for node in self.nodes))

    def serving(self, realm: str) -> Server:
        """The node that has a realm, as a node that lives says."""
        slot = slot_of(realm)
        for node in self.nodes:
            with suppress(RedisError, OSError):
                for first, last, master, *_ in node.call("CLUSTER", "SLOTS"):
                    if first <= slot <= last:
                        return next(each for each in self.nodes if each.port == master[1])
        raise AssertionError(f"nobody has {realm}")

    def _knows_all(self, node: Server) -> bool:
        info = node.call("CLUSTER", "INFO")
        return b"cluster_state:ok" in info and f"cluster_known_nodes:{len(self.nodes)}".encode() in info


def node_id(node: Server) -> str:
    """A cluster node's own name."""
    return str(node.call("CLUSTER", "MYID").decode())


@contextmanager
def redis_cluster(directory: Path, *, replicas: bool = False) -> Iterator[Cluster]:
    """A cluster of three masters."""
    cluster = Cluster(directory, replicas=replicas)
    with running(*cluster.nodes):
        cluster.join()
        yield cluster
