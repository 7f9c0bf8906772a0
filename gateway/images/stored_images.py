"""Stored images as their project meets them: listed, deleted, and named in the records of requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.errors import InvalidRequest
from gateway.domain.links import belongs_to
from gateway.domain.page import page_limit
from gateway.domain.policy import Policy, Project, Store
from gateway.images.archive import Archives
from gateway.images.linking import KeptImage, Linker, away, not_found
from gateway.ports.storage import StorageUnavailable


async def listing(linker: Linker, project: str, base: str, query: Mapping[str, str]) -> dict[str, object]:
    """Return a page of a project's images, in the order of their ids; InvalidRequest, or Unavailable."""
    limit, after = page_limit(query.get("limit")), query.get("after", "")
    if after and not belongs_to(after, project):
        raise InvalidRequest("after must be the id of an image of this project.", param="after")
    try:
        found = await linker.images.listing(project, after=after, most=limit + 1)
    except StorageUnavailable as error:
        raise away(error) from error
    page = found[:limit]
    return {
        "object": "list",
        "data": [_told(linker, base, each) for each in page],
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
        "has_more": len(found) > limit,
    }


async def deleted(linker: Linker, project: str, name: str) -> dict[str, object]:
    """Delete an image of a project; NotFound if there is none, or it is another's."""
    if not belongs_to(name, project):
        raise not_found(name)
    try:
        if not await linker.images.delete(name):
            raise not_found(name)
    except StorageUnavailable as error:
        raise away(error) from error
    return {"id": name, "object": "asset", "deleted": True}


@dataclass(frozen=True, slots=True)
class StoredImages:
    """The images that are kept of a project's requests, for their records; `headers` are those of who asks."""

    archives: Archives
    project: Project
    policy: Policy
    headers: Mapping[str, str]

    @property
    def _cached(self) -> bool:
        return any(self.policy.job_types[name].cache is not None for name in self.project.job_types)

    async def record(self, request_id: str) -> dict[str, object] | None:
        """Return the record of a request that an earlier one's images answered; None if it is no such one."""
        if not self._cached:
            return None
        return await self.archives.record(self.project.name, request_id, self.archives.linker.base(self.headers))

    async def of(self, request_id: str) -> dict[str, object]:
        """Return what the record of a request says of its images, where policy has them all stored."""
        if not (self._cached or self.project.images.store is Store.ALWAYS):
            return {}
        base = self.archives.linker.base(self.headers)
        return {"assets": await self.archives.kept(self.project.name, request_id, base)}


def _told(linker: Linker, base: str, kept: KeptImage) -> dict[str, object]:
    url, until = linker.link(base, kept), int(kept.until)
    return {"id": kept.name, "object": "asset", "bytes": kept.length, "expires_at": until, "url": url}
