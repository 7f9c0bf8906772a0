"""Task result: finished work as an answer. Its links are followed at once, once more by fresh ones if they are dead."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from gateway.domain.json_path import first
from gateway.domain.settlement import Outcome, Reading, Usage
from gateway.ports.egress import Fetcher
from gateway.ports.provider import Call, Submitted, UpstreamFailure
from gateway.providers.answer import plain_id
from gateway.providers.task_answer import TaskAnswer
from gateway.providers.task_cost import reading_of
from gateway.providers.task_images import Image, NoImage, fetch_all, links_of
from gateway.providers.task_work import Finished, TaskAccount
from gateway.providers.usage import MISSING, read_usage


class TaskResult:
    """Makes the answer to one call out of what its work has brought."""

    __slots__ = ("_call", "_fetcher", "_profile", "_submitted", "_wire")

    def __init__(self, account: TaskAccount, fetcher: Fetcher, call: Call, submitted: Submitted) -> None:
        self._profile, self._wire, self._fetcher = account.profile, account.wire, fetcher
        self._call = call
        self._submitted = submitted

    async def answer(
        self, finished: Finished, again: Callable[[], Awaitable[Finished | None]], rate_limits: Mapping[str, str]
    ) -> TaskAnswer:
        """Fetch the images; where none can be had the answer breaks, and its reading tells what the work cost.

        `again` looks at the work once more, for fresh links.
        """
        links = links_of(self._profile, finished.document)
        found = await fetch_all(self._fetcher, links, self._wire.origins, self._profile.link_lifetime)
        if any(isinstance(each, NoImage) and each.gone for each in found):
            found = await self._refreshed(found, again)
        images = [each for each in found if isinstance(each, Image)]
        reading, usage = self._reading(finished, images, made=len(links))
        picture = images[0].picture if images else None
        told = {"output_format": picture and picture.output_format, "size": reading.size, "usage": usage}
        fields = {"created": int(time.time()), **{name: value for name, value in told.items() if value is not None}}
        return TaskAnswer(
            images,
            fields,
            reading,
            upstream_request_id=plain_id(self._submitted.id),
            rate_limits=rate_limits,
            missing=max(self._call.job.n - len(images), 0),
            broken=None if images else _broken(found),
        )

    async def _refreshed(
        self, found: list[Image | NoImage], again: Callable[[], Awaitable[Finished | None]]
    ) -> list[Image | NoImage]:
        """Ask for fresh links, and fetch by them what is not here."""
        try:
            finished = await again()
        except UpstreamFailure:
            return found
        links = [] if finished is None else links_of(self._profile, finished.document)
        wanted = [number for number, each in enumerate(found) if isinstance(each, NoImage) and number < len(links)]
        fresh = await fetch_all(
            self._fetcher, [links[number] for number in wanted], self._wire.origins, self._profile.link_lifetime
        )
        for number, each in zip(wanted, fresh, strict=True):
            found[number] = each
        return found

    def _reading(self, finished: Finished, images: list[Image], made: int) -> tuple[Reading, object]:
        """Return what was told of the work, and the usage as it stands in the document, if it can be believed."""
        told = reading_of(self._profile, self._submitted, finished.document, finished.headers)
        raw = first(finished.document, self._profile.usage)
        usage = read_usage(raw, images=made) if raw is not None else MISSING
        picture = images[0].picture if images else None
        size = picture.size if picture else None
        reading = replace(
            told,
            usage=usage if isinstance(usage, Usage) else None,
            usage_problem=None if isinstance(usage, Usage) else usage,
            size=None if size is None else str(size),
            output_format=picture.output_format if picture else None,
            images=made,
            complete=True,
        )
        return reading, raw if isinstance(usage, Usage) else None


def _broken(found: list[Image | NoImage]) -> UpstreamFailure:
    """Return the failure of work that is done and brought no image that could be had."""
    missing = next((each for each in found if isinstance(each, NoImage)), None)
    if missing is None:
        return UpstreamFailure(Outcome.UNKNOWN, "garbage", "the provider says that it is done, and names no image")
    reason = "lost_image" if missing.gone else "unfetchable"
    return UpstreamFailure(Outcome.UNKNOWN, reason, missing.message)
