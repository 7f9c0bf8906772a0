"""Names of everything a realm keeps in the store. One hash tag, so that a cluster keeps a realm in one slot."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REALM = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")


@dataclass(frozen=True, slots=True)
class Names:
    """Key names of one realm; ValueError for a realm that could forge another's."""

    realm: str = "main"

    def __post_init__(self) -> None:
        if not _REALM.fullmatch(self.realm):
            raise ValueError(f"realm {self.realm!r}: lower-case letters, digits, - and _ only, 64 at most")

    def _name(self, what: str) -> str:
        return f"igw:{{{self.realm}}}:{what}"

    @property
    def meta(self) -> str:
        """HASH: epoch, schema, keys_version, pepper_check."""
        return self._name("meta")

    @property
    def balances(self) -> str:
        """HASH: a cell per meter, and per calendar window of a budget."""
        return self._name("bal")

    def request(self, request_id: str) -> str:
        """HASH: one request and its attempts; ValueError for an id that could name another key."""
        if not _REQUEST_ID.fullmatch(request_id):
            raise ValueError(f"request id {request_id!r}: letters, digits, _, - and . only, 128 at most")
        return self._name(f"req:{request_id}")

    @property
    def due(self) -> str:
        """ZSET: `request id:attempt` of every live hold, by the millisecond at which its lease lapses."""
        return self._name("due")

    @property
    def entries(self) -> str:
        """STREAM: everything that changed what was spent."""
        return self._name("entries")

    @property
    def keys(self) -> str:
        """HASH: the keyed hash of an API key, and its record."""
        return self._name("keys")
