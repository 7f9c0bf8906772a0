"""Variables that nothing reads: a misspelt one would be ignored, and a default taken in its place."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from itertools import chain

import click

PREFIX = "IMAGE_GATEWAY_"
_WORDS = """
    ADMIN_HOST ADMIN_PORT ADMIN_TOKEN ASSETS DATA FAILPOINT GRACE HOST LEASE LOG_FORMAT LOG_LEVEL
    MAX_BODIES MAX_BODY MAX_MEMORY MAX_REQUESTS MAX_WRONG_KEYS PEPPER POLICY PORT PUBLIC_URL QUIET REALM
    SANDBOX_URL SHUTDOWN_DELAY STORE STORE_TIMEOUT TRACING TRUSTED_PROXIES WORKERS
    """
PLAIN = frozenset(f"{PREFIX}{word}" for word in _WORDS.split())
"""Names that carry no command's: those of a gateway, and what no option is read from. A test holds them complete.

So that a command which runs where a gateway's variables are set need not load all the others.
"""
_INTERNAL = f"{PREFIX}INTERNAL_"
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
_SERVICE_LINK = re.compile(r"SERVICE_(?:HOST|PORT(?:_\w+)?)\Z|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?\Z")
LINKED_PORT = re.compile(r"(?:tcp|udp|sctp)://")


def unread(program: click.Group, environ: Mapping[str, str]) -> list[str]:
    """Return a line for each variable with our prefix that no command reads, with the nearest name that one does."""
    ours = {name for name in environ if name.startswith(PREFIX) and not _of_a_service(name, environ[name])}
    if any(name.startswith(_INTERNAL) for name in ours):
        return []  # a worker: its supervisor has told
    ours -= PLAIN
    for name in program.commands:
        own = _below(PREFIX.rstrip("_"), name)
        if any(each.startswith(f"{own}_") for each in ours):
            ours.difference_update(_read(program.commands[name], own))
    if not ours:
        return []
    known = PLAIN | read_by(program)
    return [f"nothing reads the variable {name}{_nearest(name, known)}" for name in sorted(ours)]


def read_by(program: click.Group) -> frozenset[str]:
    """Return every variable that an option of a command is read from."""
    every = ((command, _below(PREFIX.rstrip("_"), name)) for name, command in program.commands.items())
    return frozenset(chain.from_iterable(_read(command, own) for command, own in every))


def variable_of(option: click.Parameter, context: click.Context) -> str:
    """Return the variable that an option is read from where the command line does not give it."""
    given = option.envvar or f"{context.auto_envvar_prefix}_{(option.name or '').upper()}"
    return given if isinstance(given, str) else given[0]


def _of_a_service(name: str, value: str) -> bool:
    """Tell whether the cluster set it, for a service that is named image-gateway, or so and more."""
    return bool(_SERVICE_LINK.search(name) or (name.endswith("_PORT") and LINKED_PORT.match(value)))


def _nearest(name: str, known: frozenset[str]) -> str:
    ends = [each.removeprefix(PREFIX) for each in sorted(known)]
    close = difflib.get_close_matches(name.removeprefix(PREFIX)[:100], ends, n=1)
    return f" (did you mean {PREFIX}{close[0]}?)" if close else ""


def _below(prefix: str, name: str) -> str:
    """Return the prefix of a command's own variables, as click makes it."""
    return f"{prefix}_{name.upper().replace('-', '_')}"


def _read(command: click.Command, prefix: str) -> Iterator[str]:
    for option in command.params:
        if isinstance(option, click.Option) and option.name:
            given = option.envvar or f"{prefix}_{option.name.upper()}"
            yield from [given] if isinstance(given, str) else given
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _read(inner, _below(prefix, name))
