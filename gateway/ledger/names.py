"""Names of everything a realm keeps in the store. One hash tag, so that a cluster keeps a realm in one slot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

_REALM = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TASK_ID = re.compile(r"task_[0-9a-f]{32}")
RESPONSE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_MESSAGE_ID = re.compile(r"msg_[0-9a-f]{32}")
_HOUR = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}", re.ASCII)
_OWNER = re.compile(r"[0-9a-f]{12}")
_BATCH_KEY = re.compile(r"batch_[0-9a-f]{32}")


@dataclass(frozen=True)
class Names:
    """Key names of one realm, each put together once; ValueError for a realm that could forge another's."""

    realm: str = "main"

    def __post_init__(self) -> None:
        if not _REALM.fullmatch(self.realm):
            raise ValueError(f"realm {self.realm!r}: lower-case letters, digits, - and _ only, 64 at most")

    def _name(self, what: str) -> str:
        return f"igw:{{{self.realm}}}:{what}"

    @cached_property
    def prefix(self) -> str:
        """What all of them begin with."""
        return self._name("")

    @cached_property
    def task_prefix(self) -> str:
        """What names of tasks begin with."""
        return self._name("task:")

    @cached_property
    def callback_prefix(self) -> str:
        """What names of messages to clients begin with."""
        return self._name("callback:")

    @cached_property
    def meta(self) -> str:
        """HASH: the ledger's identity, the version of its keys, and how far entries were exported and trimmed.

        Fields: epoch, schema, keys_version, pepper_check, exported, exported_hash, trimmed, trimmed_hash, base_digest,
        lost, ahead (the last entry with a date of its own).
        """
        return self._name("meta")

    @cached_property
    def balances(self) -> str:
        """HASH: a cell per meter, and per calendar window of a budget."""
        return self._name("bal")

    @cached_property
    def request_prefix(self) -> str:
        """What the names of all requests begin with."""
        return self._name("req:")

    def request(self, request_id: str) -> str:
        """HASH: one request and its attempts; ValueError for an id that could name another key."""
        if not _REQUEST_ID.fullmatch(request_id):
            raise ValueError(f"request id {request_id!r}: letters, digits, _, - and . only, 128 at most")
        return self.request_prefix + request_id

    @cached_property
    def due(self) -> str:
        """ZSET: `request id:attempt` of every live hold, by the millisecond at which its lease lapses."""
        return self._name("due")

    @cached_property
    def entries(self) -> str:
        """STREAM: everything that changed what was spent."""
        return self._name("entries")

    @cached_property
    def base(self) -> str:
        """HASH: micro-USD by cell, the sum of entries that were exported and trimmed from the stream."""
        return self._name("base")

    @cached_property
    def instances(self) -> str:
        """HASH: how far each gateway's own operations got, by which it notices a store that came back older."""
        return self._name("instances")

    @cached_property
    def adjustments(self) -> str:
        """HASH: ids of adjustments and postings that were booked."""
        return self._name("adjustments")

    def binding(self, name: str) -> str:
        """HASH: the request that an idempotency key belongs to; ValueError for a name that is no digest."""
        if not _DIGEST.fullmatch(name):
            raise ValueError(f"binding {name!r}: 64 hex digits only")
        return self._name(f"idem:{name}")

    @cached_property
    def keys(self) -> str:
        """HASH: the keyed hash of an API key, and its record."""
        return self._name("keys")

    def task(self, task_id: str) -> str:
        """HASH: one task; ValueError for what is no task's id."""
        if not _TASK_ID.fullmatch(task_id):
            raise ValueError(f"task id {task_id!r}: task_ and 32 hex digits only")
        return self._name(f"task:{task_id}")

    def queue(self, project: str) -> str:
        """STREAM: an entry `task` per task of a project that has not ended; its group `workers` has those taken."""
        return self._name(f"tasks:queue:{project}")

    def tasks_of(self, project: str) -> str:
        """ZSET: ids of a project's tasks, by the order in which they were added."""
        return self._name(f"tasks:of:{project}")

    @cached_property
    def task_turns(self) -> str:
        """ZSET: projects whose queue may have tasks that nobody had yet, whoever is next first."""
        return self._name("tasks:turns")

    @cached_property
    def task_looks(self) -> str:
        """ZSET: projects of which tasks are taken, by the millisecond at which to look for silent workers."""
        return self._name("tasks:looks")

    @cached_property
    def tasks_returned(self) -> str:
        """ZSET: ids of tasks that their worker gave back, by the millisecond at which it did."""
        return self._name("tasks:returned")

    @cached_property
    def tasks_ended(self) -> str:
        """ZSET: `status task project` of tasks that have ended, by the millisecond at which they are forgotten."""
        return self._name("tasks:ended")

    @cached_property
    def task_counts(self) -> str:
        """HASH: how many tasks there are by status, and how many were ever added."""
        return self._name("tasks:counts")

    def took(self, worker: str) -> str:
        """HASH: what a worker took last, in case that it did not hear of it; it passes by itself."""
        return self._name(f"tasks:took:{worker}")

    def callback(self, message_id: str) -> str:
        """HASH: one message to a client; ValueError for what is no message's id."""
        if not _MESSAGE_ID.fullmatch(message_id):
            raise ValueError(f"message id {message_id!r}: msg_ and 32 hex digits only")
        return self._name(f"callback:{message_id}")

    @cached_property
    def callbacks_due(self) -> str:
        """ZSET: ids of messages to be sent, by the millisecond at which each is due."""
        return self._name("callbacks:due")

    @cached_property
    def callbacks_dead(self) -> str:
        """ZSET: ids of messages that nobody took, by the millisecond at which the last try failed."""
        return self._name("callbacks:dead")

    def callbacks_dead_of(self, project: str) -> str:
        """ZSET: the same for one project."""
        return self._name(f"callbacks:dead:{project}")

    def batch(self, key: str) -> str:
        """HASH: one batch of requests at a provider; ValueError for what is no batch's key."""
        if not _BATCH_KEY.fullmatch(key):
            raise ValueError(f"batch {key!r}: batch_ and 32 hex digits only")
        return self._name(f"batch:{key}")

    def hints_for(self, owner: str) -> str:
        """LIST: calls of providers that one gateway waits for; ValueError for what is no gateway's name."""
        if not _OWNER.fullmatch(owner):
            raise ValueError(f"gateway {owner!r}: 12 hex digits only")
        return self._name(f"hints:{owner}")

    @cached_property
    def response_prefix(self) -> str:
        """What the names of all responses begin with."""
        return self._name("response:")

    def response(self, response_id: str) -> str:
        """HASH: whose a response of a conversation is; ValueError for what is no response's id."""
        if not RESPONSE_ID.fullmatch(response_id):
            raise ValueError(f"response id {response_id!r}: letters, digits, _ and - only")
        return f"{self.response_prefix}{response_id}"

    @cached_property
    def responses_followed(self) -> str:
        """ZSET: ids of responses whose work goes on, by the millisecond at which another may follow them."""
        return self._name("responses:followed")

    @cached_property
    def heartbeats(self) -> str:
        """HASH: the last word of each process, by its name; nothing of money depends on it."""
        return self._name("pulses")

    def happened(self, hour: str) -> str:
        """HASH: how often what happened in an hour, over all processes; ValueError for what is no hour."""
        if not _HOUR.fullmatch(hour):
            raise ValueError(f"hour {hour!r}: such as 2026-11-20T09 only")
        return self._name(f"happened:{hour}")

    @cached_property
    def refused(self) -> str:
        """LIST: the newest requests that were refused, newest first, 200 at most."""
        return self._name("refused")
