"""Calls of providers that arrived at another gateway, in Redis: a short list for each, forgotten within a minute."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.ledger import script
from gateway.ledger.calls import Calls
from gateway.ledger.names import Names
from gateway.ledger.store import Store
from gateway.observe.event import Observer

MOST = 200
"""Calls in one mailbox."""
KEPT = 60
"""Seconds for which a mailbox stays that nobody empties."""
AT_ONCE = 50
"""Calls in one look."""


class RedisMailboxes:
    """Implements `ports.hints.Mailboxes`."""

    def __init__(self, store: Store, realm: str = "main", *, observer: Observer | None = None) -> None:
        self._names = Names(realm)
        self._calls = Calls(store, self._names, observer, _nothing_to_tell)

    async def leave(self, owner: str, call: str) -> None:
        """Put a call into a mailbox, unless it is full."""
        args = [call, str(MOST), str(KEPT)]
        await self._calls.run("callback", script.HINT_LEAVE, [self._names.hints_for(owner)], args)

    async def collect(self, owner: str) -> Sequence[str]:
        """Take what is in a mailbox, up to 50."""
        key = self._names.hints_for(owner)
        if not await self._calls.execute("EXISTS", key):
            return ()
        return [str(call) for call in await self._calls.run("callback", script.HINTS_TAKE, [key], [str(AT_ONCE)])]


def _nothing_to_tell(*, certainly: bool) -> None:
    """A call that the store lost was a hint; the work is found done by asking."""
