"""Repeating: calls of a fanned-out job that failed before any work was done, done again beside those that succeeded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.ports.provider import Call, Provider, Repeats
from gateway.providers.part import Part, fetch


async def made_good(provider: Provider, calls: Sequence[Call], parts: list[Part], repeats: Repeats) -> None:
    """Repeat what failed and may be, and put what comes of it in its place; nothing if no call succeeded.

    What another process submitted is followed, not repeated. A cancellation leaves in `parts` whatever is to be freed.
    """
    if all(part.failure for part in parts) or any(_followed(call) for call in calls):
        return
    failed = [place for place, part in enumerate(parts) if part.failure]
    async with asyncio.TaskGroup() as group:
        for place in failed:
            group.create_task(_repeated(provider, calls[place], place, parts, repeats))


def _followed(call: Call) -> bool:
    return call.submissions is not None and call.submissions.known is not None


async def _repeated(provider: Provider, call: Call, place: int, parts: list[Part], repeats: Repeats) -> None:
    tries = 1
    while (failure := parts[place].failure) is not None and await repeats.again(failure, tries):
        tries += 1
        failed: bool | None = None
        try:
            part = await fetch(provider, call)
            failed = part.failure is not None
        finally:
            repeats.ended(failed=failed)
        part.repeated = (*parts[place].repeated, failure)
        await parts[place].aclose()
        parts[place] = part
