"""Earlier answer: waiting for the answer of an earlier request, whichever process it runs in, or ran in."""

from __future__ import annotations

import asyncio
import random
import time
from enum import Enum

from gateway.domain.errors import Unavailable, UpstreamTimeout
from gateway.ports import Answers, Ledger, LedgerUnavailable, Outbound
from gateway.request.duplicates import not_kept

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 0.25
"""Seconds between two looks for the answer."""
LOOK_EVERY = 1.0
"""Seconds between two looks at the ledger's record."""
GRACE = 2.0
"""Seconds for which a request may have ended without its answer being there: an error is kept after it is booked."""
PATIENCE = 900.0
"""Seconds; longer than any client waits by default."""


class _State(Enum):
    RUNNING = "running"
    ENDED = "ended"
    NOTHING = "nothing"
    """All of it was given back: nothing was billed, and its name is free."""
    UNKNOWN = "unknown"


class EarlierAnswers:
    """Waits for answers that other requests bring, for at most `patience` seconds each."""

    def __init__(self, ledger: Ledger, answers: Answers, *, patience: float = PATIENCE) -> None:
        self._ledger = ledger
        self._answers = answers
        self._patience = patience

    async def answer(self, request_id: str, *, claimed: bool) -> Outbound | None:
        """Wait for a request's answer and return it; None if the request came to nothing, so that it may be done again.

        One that was `claimed` may have been left behind before anything was held. Raises the error of an answer that
        will not come: its outcome is unknown, or it was not kept.
        """
        began, pause, look_at, ended_at = time.monotonic(), FIRST_PAUSE, 0.0, None
        while True:
            answer = await self._answers.find(request_id)
            if answer is not None:
                return answer
            now = time.monotonic()
            if now >= look_at:
                look_at = now + LOOK_EVERY
                state = await self._state(request_id)
                if state is _State.NOTHING:
                    return None
                ended_at = None if state is _State.RUNNING else ended_at or now
                if ended_at is not None and now - ended_at > GRACE:
                    if claimed and state is _State.UNKNOWN:
                        return None
                    raise not_kept(request_id)
            if now - began > self._patience:
                raise UpstreamTimeout(f"This request repeats {request_id}, which is still running.")
            await _sleep(pause)
            pause = min(pause * 1.2, LONGEST_PAUSE)

    async def _state(self, request_id: str) -> _State:
        try:
            kept = await self._ledger.request(request_id)
        except LedgerUnavailable:
            return _State.RUNNING  # nobody can tell; the answer may come all the same
        attempts = kept.get("attempts") if kept else None
        if not isinstance(attempts, list) or not attempts:
            return _State.UNKNOWN
        states = {attempt["state"] for attempt in attempts}
        if states & {"queued", "sent"}:
            return _State.RUNNING
        return _State.NOTHING if states == {"void"} else _State.ENDED


async def _sleep(seconds: float) -> None:
    try:
        await asyncio.sleep(seconds * random.uniform(0.8, 1.0))  # noqa: S311 - jitter, not a secret
    except asyncio.CancelledError as error:
        # Only a gateway that shuts down cancels, and another one can go on waiting.
        message = "The gateway is shutting down; please try again."
        raise Unavailable(message, code="shutting_down", retry_after=1) from error
