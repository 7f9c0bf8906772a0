"""Delivers the answer that announces a task; records the task for a retry if the client leaves first.

A library that repeats a request without a key says so; it is to find the task that its first try has made.
"""

from __future__ import annotations

import asyncio

from gateway.ports import Ledger, Outbound
from gateway.request.answer_keeping import leave_behind
from gateway.request.duplicates import Watched

_leaving: set[asyncio.Task[None]] = set()
"""What is being noted, kept from being collected meanwhile."""


class TaskAnnouncement:
    """One task that is being made, or found again. `name` is what a retry calls it by; None if none can come."""

    def __init__(self, ledger: Ledger, name: str | None) -> None:
        self._ledger = ledger
        self._name = name
        self._request_id: str | None = None
        self._left = False

    def known(self, request_id: str | None) -> None:
        """Take note of the request whose task it is, once money is held for it; None if it came to nothing."""
        self._request_id = request_id
        if self._left:
            self._note()

    def left(self) -> None:
        """Take note that the client is gone and has no answer."""
        if not self._left:
            self._left = True
            self._note()

    def _note(self) -> None:
        if self._name is not None and self._request_id is not None:
            task = asyncio.create_task(leave_behind(self._ledger, self._name, self._request_id))
            _leaving.add(task)
            task.add_done_callback(_leaving.discard)

    def handed(self, answer: Outbound) -> Outbound:
        """Return the answer, watched until the client has all of it."""

        def ended(taken: bool, _: int) -> None:
            if not taken:
                self.left()

        return Outbound(answer.status, answer.headers, Watched(answer.chunks, ended))
