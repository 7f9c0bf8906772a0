"""Hints: unguessable URLs that providers call when work is done, so that somebody looks at it again."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import random
import secrets
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway.ports import LedgerUnavailable
from gateway.ports.hints import Mailboxes

log = logging.getLogger(__name__)

PATH = "/v1/hints/"
MOST = 20_000
"""URLs open at once; beyond it work is found done by asking alone."""
PAUSE = 0.25
"""Seconds between two looks for calls that arrived elsewhere, and only while URLs are open here."""
MOST_PASSED = 200
"""Calls that wait to be passed on to other gateways; what comes beyond it is found done by asking."""
MOST_BYTES = 64 * 1024
"""Of a call that is passed on, headers and body."""
_PRIVATE = frozenset({"authorization", "cookie", "proxy-authorization"})
_OWNER, _RANDOM, _MARK = 6, 24, 18
"""Bytes of a token: who opened it, chance, and the gateways' own mark; 64 characters of base64."""

Take = Callable[[Mapping[str, str], bytes], bool]
"""Given the headers (names in lower case) and body of a call; tells whether it is one that was expected."""


class HintBoard:
    """Implements `ports.Hints`. `public_url` is the address under which providers reach the gateway, if there is one.

    Several gateways may share that address. A token says, under a mark made with their common `secret`, which of them
    opened it: a call that arrives at another one is left in the owner's mailbox, and taken from there soon. Nobody can
    make up a token that any of them would pass on, and what is passed on is judged by its owner like any other call.
    """

    def __init__(self, public_url: str | None, secret: bytes = b"", mailboxes: Mailboxes | None = None) -> None:
        self._base = None if public_url is None else public_url.rstrip("/") + PATH
        self._key = hmac.new(secret, b"tokens of hints", hashlib.sha256).digest()
        self._mailboxes = mailboxes
        self._own = secrets.token_bytes(_OWNER)
        self._open: dict[bytes, Take] = {}
        self._expecting = asyncio.Event()
        self._passing: deque[tuple[str, str]] = deque()
        self._to_pass = asyncio.Event()

    def expect(self, take: Take) -> OpenHint | None:
        """Open a URL; None if there is no public address, or too many are open."""
        if self._base is None or len(self._open) >= MOST:
            return None
        content = self._own + secrets.token_bytes(_RANDOM)
        token = base64.urlsafe_b64encode(content + self._mark(content)).decode()
        self._open[_digest(token)] = take
        self._expecting.set()
        return OpenHint(f"{self._base}{token}", lambda: self._close(token))

    def find(self, token: str) -> Take | None:
        """Return who takes a call with a token. It is looked up by its hash, so timing tells nothing of others."""
        return self._open.get(_digest(token)) or self._elsewhere(token)

    async def run(self) -> None:
        """Pass on what others wait for, and take what arrived at others, until cancelled."""
        if self._mailboxes is None or self._base is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on(self._mailboxes))
            group.create_task(self._collect(self._mailboxes))

    def _close(self, token: str) -> None:
        self._open.pop(_digest(token), None)
        if not self._open:
            self._expecting.clear()

    def _mark(self, content: bytes) -> bytes:
        return hmac.new(self._key, content, hashlib.sha256).digest()[:_MARK]

    def _elsewhere(self, token: str) -> Take | None:
        """Return what passes a call on to the gateway that opened the URL; None if none did, or if it was this one."""
        try:
            content = base64.b64decode(token.encode("ascii", "replace"), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        content, mark = content[: _OWNER + _RANDOM], content[_OWNER + _RANDOM :]
        owner = content[:_OWNER]
        if self._mailboxes is None or owner == self._own or not hmac.compare_digest(self._mark(content), mark):
            return None

        def leave(headers: Mapping[str, str], body: bytes) -> bool:
            kept = {name: value for name, value in headers.items() if name not in _PRIVATE}
            call = json.dumps([token, kept, base64.b64encode(body).decode()])
            if len(call) <= MOST_BYTES and len(self._passing) < MOST_PASSED:
                self._passing.append((owner.hex(), call))
                self._to_pass.set()
            return True

        return leave

    async def _pass_on(self, mailboxes: Mailboxes) -> None:
        while True:
            await self._to_pass.wait()
            self._to_pass.clear()
            while self._passing:
                owner, call = self._passing.popleft()
                try:
                    await mailboxes.leave(owner, call)
                except LedgerUnavailable as error:
                    log.warning("a provider's call is not passed on, its work is found done by asking: %s", error)

    async def _collect(self, mailboxes: Mailboxes) -> None:
        while True:
            await self._expecting.wait()
            await asyncio.sleep(PAUSE * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
            try:
                calls = await mailboxes.collect(self._own.hex())
            except LedgerUnavailable:
                continue  # the work is found done by asking
            for call in calls:
                token, headers, body = json.loads(call)
                if (take := self._open.get(_digest(token))) is not None:
                    take(headers, base64.b64decode(body))


@dataclass(frozen=True, slots=True)
class OpenHint:
    """Implements `ports.Expected`: `url` has the token in it."""

    url: str
    close: Callable[[], None]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
