"""Sessions: who has shown the token, by a cookie that no script can read and no other site can have sent."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable

IDLE_SECONDS, LONGEST_SECONDS = 2 * 3600.0, 12 * 3600.0
"""A session ends when it was not used for so long, and so long after it began in any case."""
MOST_SESSIONS = 1000


class Sessions:
    """Kept in memory, as digests: they end with the process. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sessions: dict[bytes, tuple[float, float]] = {}
        """By digest, when it began and when it was used last."""

    def begin(self) -> str:
        """Return the secret of a new session."""
        secret = secrets.token_urlsafe(32)
        now = self._clock()
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[min(self._sessions, key=lambda digest: self._sessions[digest][1])]
        self._sessions[_digest(secret)] = (now, now)
        return secret

    def use(self, secret: str) -> bool:
        """Tell whether this is a session that goes on, and keep it so."""
        digest, now = _digest(secret), self._clock()
        found = self._sessions.get(digest)
        if found is None:
            return False
        began, used = found
        if now - used > IDLE_SECONDS or now - began > LONGEST_SECONDS:
            del self._sessions[digest]
            return False
        self._sessions[digest] = (began, now)
        return True

    def goes_on(self, secret: str) -> bool:
        """Tell whether this is a session that goes on, without keeping it so."""
        found, now = self._sessions.get(_digest(secret)), self._clock()
        return found is not None and now - found[1] <= IDLE_SECONDS and now - found[0] <= LONGEST_SECONDS

    def end(self, secret: str) -> None:
        """End a session; nothing if there is none."""
        self._sessions.pop(_digest(secret), None)


def cookie_name(port: int) -> str:
    """Return the name of the cookie: browsers send cookies to every port of a host, and each has a console."""
    return f"igw_console_{port}"


def cookie(name: str, secret: str, *, encrypted: bool) -> str:
    """Return the header that sets the cookie, or takes it away with an empty secret."""
    ends = "; Max-Age=0" if not secret else ""
    return f"{name}={secret}; Path=/console; HttpOnly; SameSite=Strict{'; Secure' if encrypted else ''}{ends}"


def secret_in(header: str, name: str) -> str:
    """Return what a Cookie header says under a name; empty if nothing."""
    pairs = (pair.strip().partition("=") for pair in header.split(";"))
    return next((value for found, _, value in pairs if found == name), "")


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
