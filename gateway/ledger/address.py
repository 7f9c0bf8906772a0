"""Where the store is: the URL that the user gave, read once, and refused in one clear line that names no password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from gateway.ledger.errors import StoreError

Endpoint = tuple[str, int]
"""Host and port."""


class Topology(StrEnum):
    """How the servers of a store stand to each other."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES = {
    "redis": (Topology.SINGLE, False),
    "rediss": (Topology.SINGLE, True),
    "unix": (Topology.SINGLE, False),
    "redis+sentinel": (Topology.SENTINEL, False),
    "rediss+sentinel": (Topology.SENTINEL, True),
    "redis+cluster": (Topology.CLUSTER, False),
    "rediss+cluster": (Topology.CLUSTER, True),
}
_KNOWN = "redis://, rediss://, unix://, redis+sentinel://, redis+cluster:// (rediss+… with TLS) or embedded:"
_DEFAULT_PORTS = {Topology.SINGLE: 6379, Topology.SENTINEL: 26379, Topology.CLUSTER: 6379}

_WORDS = ("username", "password", "client_name")
_SENTINEL_WORDS = {"sentinel_username": "username", "sentinel_password": "password"}
TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_WORDS = (*TLS_FILES, "ssl_ca_path", "ssl_password", "ssl_ciphers", "ssl_cert_reqs", "ssl_check_hostname")
_FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """A store's address. `options` and `sentinel_options` are keyword arguments of the client library's connections.

    `endpoints` are the server's, the sentinels', or some nodes of the cluster; none with `path`, a unix socket's.
    `where` is the URL without its secrets, for messages.
    """

    where: str
    topology: Topology
    tls: bool
    endpoints: Sequence[Endpoint] = ()
    path: str | None = None
    service: str = ""
    options: Mapping[str, object] = field(default_factory=dict, repr=False)
    sentinel_options: Mapping[str, object] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, url: str) -> StoreAddress:
        """Read a URL; StoreError if it cannot be one of a store."""
        where = without_secrets(url)
        try:
            return _parse(url, where)
        except ValueError as error:
            raise StoreError(f"store URL {where!r}: {error}") from error

    def at_home(self) -> StoreAddress:
        """Return it with `where` naming the socket's own directory, not a link to it, which may be there for now only.

        The embedded store, whose directory may have too long a name for a socket, has another link at each start.
        """
        assert self.path is not None, "only a unix socket is in a directory"
        parts = urlsplit(self.where)
        query = f"?{parts.query}" if parts.query else ""
        return replace(self, where=f"unix://{parts.netloc}{quote(os.path.realpath(self.path))}{query}")


def without_secrets(url: str) -> str:
    """Return a URL, or what was meant as one, without user, password and other secrets."""
    url = re.sub(r"//.*@", "//***@", url, flags=re.DOTALL)
    return re.sub(r"((?:password|passwd|pw)=)[^&]*", r"\1***", url, flags=re.IGNORECASE)


def _parse(url: str, where: str) -> StoreAddress:
    try:
        parts = urlsplit(url)
    except ValueError:  # its message may quote a part of the password
        raise ValueError("it is malformed") from None
    if parts.scheme not in _SCHEMES or not url[len(parts.scheme) :].startswith("://"):
        raise ValueError(f"must be {_KNOWN}")
    if parts.fragment:
        raise ValueError("it must have no #; write %23 for one that belongs to a name or a password")
    topology, tls = _SCHEMES[parts.scheme]
    options, sentinel_options = _options(parts.query, topology, tls=tls)
    user, _, hosts = parts.netloc.rpartition("@")
    options = _credentials(user) | options
    if parts.scheme == "unix":
        if not parts.path or hosts:
            raise ValueError("a unix socket needs an absolute path, as in unix:///run/redis.sock")
        return StoreAddress(where, topology, tls, path=unquote(parts.path), options=options)
    endpoints = [_endpoint(host, _DEFAULT_PORTS[topology]) for host in hosts.split(",")]
    if topology is Topology.SINGLE and len(endpoints) > 1:
        raise ValueError("it names several hosts; use redis+sentinel:// or redis+cluster://")
    service, database = _path(parts.path, topology)
    if database and topology is Topology.CLUSTER:
        raise ValueError("a cluster has database 0 alone")
    if database:
        options = {"db": database} | options
    return StoreAddress(where, topology, tls, endpoints, None, service, options, sentinel_options)


def _credentials(user: str) -> dict[str, object]:
    name, _, password = user.partition(":")
    given = {"username": unquote(name), "password": unquote(password)}
    return {what: value for what, value in given.items() if value}


def _endpoint(text: str, default: int) -> Endpoint:
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]/\s]+)(?::(\d{1,5}))?", text)
    if found is None or int(found[2] or 1) not in range(1, 65536):
        raise ValueError("hosts must be HOST or HOST:PORT, separated by commas; write @ / : ? # in a password as %40 …")
    return unquote(found[1].strip("[]")), int(found[2] or default)


def _path(path: str, topology: Topology) -> tuple[str, int]:
    """Return the sentinels' name of the service, and the number of the database."""
    words = [unquote(word) for word in path.strip("/").split("/") if word]
    service = ""
    if topology is Topology.SENTINEL:
        if not words:
            raise ValueError("it must end with the name of the service, as in redis+sentinel://h1,h2,h3/mymaster")
        service = words.pop(0)
    if len(words) > 1 or not all(re.fullmatch(r"[0-9]{1,5}", word) for word in words):
        raise ValueError("the database must be a number")
    return service, int(words[0]) if words else 0


def _options(query: str, topology: Topology, *, tls: bool) -> tuple[dict[str, object], dict[str, object]]:
    options: dict[str, object] = {}
    sentinel: dict[str, object] = {}
    for name, value in parse_qsl(query.replace("+", "%2B"), keep_blank_values=True):  # no form: + is itself here too
        if name in _SENTINEL_WORDS and topology is Topology.SENTINEL:
            sentinel[_SENTINEL_WORDS[name]] = value
        elif name in _TLS_WORDS:
            if not tls:
                raise ValueError(f"{name} needs TLS: rediss:// instead of redis://")
            options[name] = _tls_option(name, value)
        elif name == "db" and topology is not Topology.CLUSTER:
            options[name] = _number(value)
        elif name in _WORDS:
            options[name] = value
        else:
            known = ("db", *_WORDS, *(_SENTINEL_WORDS if topology is Topology.SENTINEL else ()), *_TLS_WORDS)
            raise ValueError(f"there is no option {name!r}; there are {', '.join(known)}")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("ssl_keyfile needs ssl_certfile")
    if "ssl_certfile" in options:  # one file may hold both; some versions of the client show none without a key
        options.setdefault("ssl_keyfile", options["ssl_certfile"])
    return options, sentinel


def _number(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", value):
        raise ValueError("db must be a number")
    return int(value)


def _tls_option(name: str, value: str) -> object:
    if name in TLS_FILES and not Path(value).is_file():
        raise ValueError(f"{name}: there is no file {value}")
    if name == "ssl_cert_reqs" and value not in {"none", "optional", "required"}:
        raise ValueError("ssl_cert_reqs must be none, optional or required")
    if name != "ssl_check_hostname":
        return value
    if value.lower() not in _FLAGS:
        raise ValueError("ssl_check_hostname must be true or false")
    return _FLAGS[value.lower()]
