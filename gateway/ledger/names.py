"""Names of everything a realm keeps in the store. One hash tag, so that a cluster keeps a realm in one slot."""

from __future__ import annotations

import re
from dataclasses import dataclass

_REALM = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


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
        """HASH: the ledger's identity, the version of its keys, and how far entries were exported and trimmed.

        Fields: epoch, schema, keys_version, pepper_check, exported, exported_hash, trimmed, trimmed_hash, base_digest.
        """
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
    def base(self) -> str:
        """HASH: micro-USD by cell, the sum of entries that were exported and trimmed from the stream."""
        return self._name("base")

    @property
    def instances(self) -> str:
        """HASH: how far each gateway's own operations got, by which it notices a store that came back older."""
        return self._name("instances")

    @property
    def adjustments(self) -> str:
        """HASH: ids of adjustments and postings that were booked."""
        return self._name("adjustments")

    def binding(self, name: str) -> str:
        """HASH: the request that an idempotency key belongs to; ValueError for a name that is no digest."""
        if not _DIGEST.fullmatch(name):
            raise ValueError(f"binding {name!r}: 64 hex digits only")
        return self._name(f"idem:{name}")

    @property
    def keys(self) -> str:
        """HASH: the keyed hash of an API key, and its record."""
        return self._name("keys")
