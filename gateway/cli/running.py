"""What `serve` and `demo` share: reading policy, clear errors, and what they tell the user."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from gateway.cli.options import EMBEDDED, Fatal, demo_data, os_words
from gateway.config.fingerprint import PolicySource, source_of
from gateway.config.load import check_policy, load_policy
from gateway.config.problems import Problem, did_you_mean, shown, unmasked
from gateway.domain.policy import Policy
from gateway.domain.route import Secret
from gateway.ledger.embedded import has_store
from gateway.ledger.errors import StoreError
from gateway.ledger.store import Store, store_url
from gateway.ports import LedgerUnavailable
from gateway.process.today import today

log = logging.getLogger("gateway.policy")

ADMIN_TOKEN = "IMAGE_GATEWAY_ADMIN_TOKEN"  # noqa: S105 - the name of a variable
SHORTEST_TOKEN = 16
SECONDS = 30.0
"""How long one answer of the store may take: exports, audits and reports ask for much at once."""


def read_policy(directory: Path, environ: Mapping[str, str]) -> tuple[Policy, Sequence[Problem], PolicySource]:
    """Return the policy, what it warns of, and its files; Fatal with every problem, a line each, if it is not sound."""
    source = source_of(directory)
    loaded = load_policy(directory, environ=environ, secrets="required", today=today())
    if loaded.policy is None:
        warnings = [f"{warning} (warning)" for warning in loaded.warnings]
        raise Fatal("\n".join(["the policy does not check:", *map(str, loaded.problems), *warnings]))
    return loaded.policy, loaded.warnings, source


def log_warnings(warnings: Iterable[Problem]) -> None:
    """Log what a policy warns of, a line each, as a reload does."""
    for warning in warnings:
        log.warning("policy warning: %s", unmasked(warning))


def checked_policy(directory: Path) -> Policy:
    """Return the policy, which need not find its secrets here; Fatal with every problem if it does not check."""
    loaded = check_policy(directory, os.environ, today())
    if loaded.policy is None:
        raise Fatal("\n".join(["the policy does not check:", *map(str, loaded.problems)]))
    return loaded.policy


def check_project(name: str, policy: Policy) -> None:
    """Raise BadParameter, for `--project`, where the policy has no such project."""
    if name not in policy.projects:
        near = did_you_mean(name, policy.projects) or f"; it has {', '.join(sorted(policy.projects)) or 'none'}"
        raise click.BadParameter(f"the policy has no project {shown(name)}{near}", param_hint="'--project'")


def secrets_of(policy: Policy) -> list[str]:
    """Every secret of providers and of callbacks, and where accounts are, so that logs can mask it."""
    keys = [provider.api_key for provider in policy.providers.values()]
    signing = [secret for project in policy.projects.values() for secret in project.callback_secrets]
    hosts = {urlsplit(provider.base_url).hostname or "" for provider in policy.providers.values()}
    return [*revealed(*keys, *signing), *(host for host in hosts if not _is_loopback(host))]


def revealed(*secrets: Secret | None) -> list[str]:
    """Return those that there are, word for word."""
    return [secret.reveal() for secret in secrets if secret is not None]


def hidden(variable: str) -> Secret | None:
    """Return what an environment variable holds, as a secret; None if it is not set, or empty."""
    value = os.environ.get(variable)
    return Secret(value) if value else None


def admin_token(host: str) -> Secret | None:
    """Return the admin plane's token; Fatal if it is short, or if there is none and the address is not loopback."""
    given = os.environ.get(ADMIN_TOKEN, "")
    token = given.strip()  # no header could have the line end of a file that it came from
    if given and len(token) < SHORTEST_TOKEN:
        raise Fatal(f"{ADMIN_TOKEN} is too short: {SHORTEST_TOKEN} characters at least")
    if not token and not _is_loopback(host):
        raise Fatal(f"--admin-host {host} can be reached from elsewhere: set {ADMIN_TOKEN}, or use 127.0.0.1")
    return Secret(token) if token else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextlib.contextmanager
def existing_store(store: str, data: Path) -> Iterator[str]:
    """Yield the URL of a store that was used before; Fatal if there is none, so that a mistyped path makes none."""
    if store == EMBEDDED and not has_store(data):
        raise Fatal(f"there is no store in {data}: nothing was served from there yet, or --data should be another")
    with store_url(store, data) as url:
        yield url


@contextlib.contextmanager
def store_to_read(store: str, data: Path) -> Iterator[str]:
    """Yield what `existing_store` does, for a command that changes nothing: the demo's where it alone is there.

    So it is only where nobody said which, and that is told on stderr.
    """
    context, demo = click.get_current_context(), demo_data()
    unsaid = all(context.get_parameter_source(name) is ParameterSource.DEFAULT for name in ("store", "data"))
    if unsaid and not has_store(data) and has_store(demo):
        click.echo(f"image-gateway: there is no store in {data}; this is the demo's, in {demo}", err=True)
        data = demo
    with existing_store(store, data) as url:
        yield url


@contextlib.contextmanager
def new_or_existing_store(store: str, data: Path) -> Iterator[str]:
    """Yield the URL of a store; that one was begun in `data` is told, for another was meant if --data was forgotten."""
    begins = store == EMBEDDED and not has_store(data)
    with store_url(store, data) as url:
        if begins:
            told = f"began a new store in {data}; a gateway with another --data or --store does not know its keys"
            click.echo(f"image-gateway: {told}", err=True)
        yield url


@contextlib.asynccontextmanager
async def connected(
    url: str, realm: str = "main", *, deadline: float = SECONDS, writes: bool = True
) -> AsyncIterator[Store]:
    """Yield a connection to a store that was checked; `deadline` is seconds a call."""
    store = Store(url, deadline=deadline, realm=realm)
    try:
        await store.check(writes=writes)
        yield store
    finally:
        await store.aclose()


@contextlib.contextmanager
def clear_errors() -> Iterator[None]:
    """Turn what an operator can mend into one line: a port in use, a store that does not answer."""
    try:
        yield
    except (StoreError, LedgerUnavailable) as error:
        raise Fatal(str(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads any more, so there is nobody to tell
            raise
        raise Fatal(os_words(error)) from error


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all, by another name until it is whole; OSError if it cannot be."""
    path = Path(os.path.realpath(path))  # `resolve` has an error of its own for links in a circle
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if path.exists() and not path.is_file():  # a device or a pipe
        path.write_text(text, encoding="utf-8")
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            if path.exists():
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)  # who could not read the former one cannot now
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def address(name: tuple[str, int]) -> str:
    """Return `host:port` of a socket's name, an IPv6 host in brackets."""
    host, port = name[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
