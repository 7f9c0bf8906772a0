"""TLS to the store: one context for all connections, made anew once a file of its certificates was replaced."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio.connection import SSLConnection
from redis.exceptions import RedisError

from gateway.ledger.address import TLS_FILES
from gateway.ledger.errors import StoreError

log = logging.getLogger(__name__)


class TlsContext:
    """What the `ssl_` options of a store's URL say; StoreError if their files hold no certificate or key."""

    def __init__(self, options: Mapping[str, Any], where: str) -> None:
        self._options = dict(options)
        self._files = [str(options[name]) for name in TLS_FILES if name in options]
        self._where = where
        self._versions = self._read_versions()
        self._context = self._read()

    def current(self) -> Any:
        """Return the context for a connection that is opened now: the one before while renewed files do not fit."""
        versions = self._read_versions()
        if versions != self._versions:  # reading them for each connection would take milliseconds
            self._versions = versions
            try:
                self._context = self._read()
            except StoreError as error:
                log.warning("%s; the certificates from before are used on, until a file changes again", error)
        return self._context

    def _read(self) -> Any:
        try:
            context = SSLConnection(**self._options).ssl_context
            context.get()
        except (RedisError, OSError, ValueError) as error:  # a certificate or key that is none
            raise StoreError(f"store URL {self._where!r}: TLS: {_reason(error)}") from error
        return context

    def _read_versions(self) -> list[tuple[int, int, int] | None]:
        return [_version(name) for name in self._files]


def _version(name: str) -> tuple[int, int, int] | None:
    """Return what changes when a file, or what a link leads to, is replaced or written to; None if there is none."""
    try:
        found = Path(name).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "the certificate or key cannot be read")
    return " ".join(str(error).split()) or type(error).__name__
