"""Storage wiring: all that outlives a request besides money, joined for one process: images, kept answers, task bodies.

What other gateways must find lies in one storage, a directory or a bucket; what only this process needs is on its disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from gateway.assets.answers import AnswersOnDisk
from gateway.assets.answers_in_blobs import FOLDER, AnswersInBlobs
from gateway.assets.blobs import BlobsOnDisk
from gateway.assets.converting import PillowConverter
from gateway.assets.images import ImageStore, Terms
from gateway.assets.location import Bucket
from gateway.assets.s3 import BlobsInS3
from gateway.domain.links import Signer, mark_of
from gateway.domain.policy import Policy
from gateway.images.answer_cache import AnswerCache
from gateway.images.archive import Archives
from gateway.images.linking import Linker
from gateway.ledger.clock import earlier_time
from gateway.ledger.store import Store
from gateway.observe.event import NONE, Observer

DAY = 86_400.0
KEEP_FOR = {"tasks": 2 * DAY, "records": 90 * DAY, "cache": 90 * DAY}
"""Seconds for which blobs stay at most, by the first part of their name. A task begins within a day, and its body is
deleted when it ends; notes and cached answers are good for as long as the images that they name."""


class StorageSettings(Protocol):
    """Where a gateway keeps things, and under which URL others reach it."""

    @property
    def data(self) -> Path:
        """Its own directory."""

    @property
    def assets(self) -> Path | None:
        """The directory that gateways share; None: in `data`."""

    @property
    def bucket(self) -> Bucket | None:
        """What they share in its place."""

    @property
    def public_url(self) -> str | None:
        """The URL; None if it is not known."""


class StorageWiring:
    """`policy` returns the policy that serves now; links are signed with a key derived from `secret`.

    What is too old is told by `now`, for which the clock of `store` counts too.
    """

    def __init__(
        self, where: StorageSettings, policy: Callable[[], Policy], secret: bytes, observer: Observer, store: Store
    ) -> None:
        self.now = now = partial(earlier_time, store)
        self._policy = policy
        self._terms: tuple[str, Mapping[str, Terms]] = ("", {})
        self.folder = where.assets or where.data / "assets"
        self.answers: AnswersOnDisk | AnswersInBlobs
        if where.bucket is None:
            self.blobs: BlobsOnDisk | BlobsInS3 = BlobsOnDisk(self.folder, keep_for=KEEP_FOR, now=now)
            self.images = ImageStore(self.blobs, self._terms_now, now=now)
            self.answers = AnswersOnDisk(self.folder / "answers", now=now)
        else:
            # A bucket has no end that a burst could reach, so quotas alone bound what is in it.
            self.blobs = BlobsInS3(where.bucket, keep_for={**KEEP_FOR, FOLDER: DAY}, now=now)
            self.images = ImageStore(self.blobs, self._terms_now, most=None, now=now)
            self.answers = AnswersInBlobs(self.blobs)
        self.linker = Linker(self.images, Signer(secret), public_url=where.public_url, observer=observer)
        cache = AnswerCache(self.blobs, self.linker, observer)
        self.archives = Archives(self.linker, self.blobs, cache, PillowConverter())

    def _terms_now(self) -> Mapping[str, Terms]:
        policy = self._policy()
        if self._terms[0] != policy.digest:
            terms = {
                mark_of(name): Terms(name, project.images.kept_for, project.images.quota)
                for name, project in policy.projects.items()
            }
            self._terms = (policy.digest, terms)
        return self._terms[1]

    def held(self) -> Mapping[str, int]:
        """Return the bytes of each project's images, as of the last look."""
        return {name or NONE: size for name, size in self.images.held.items()}

    async def run(self) -> None:
        """Delete what is too old or too much, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.blobs.run())
            group.create_task(self.images.run())
            if isinstance(self.answers, AnswersOnDisk):
                group.create_task(self.answers.run())

    async def aclose(self, grace: float) -> None:
        """Finish what is being kept, within `grace` seconds."""
        await self.archives.aclose(grace)
