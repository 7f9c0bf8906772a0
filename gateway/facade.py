"""Facade: what the gateway offers to the web layer, as a contract."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from gateway.ports import Headers, Inbound, Outbound
from gateway.ports.responses import PassthroughRequest


class Gateway(Protocol):
    """What the web layer serves. Every method raises GatewayError; headers have lower-case names."""

    def handle(self, inbound: Inbound) -> Coroutine[Any, Any, Outbound]:
        """Run one image request from key to settlement."""

    async def models(self, headers: Mapping[str, str]) -> list[dict[str, object]]:
        """List what this key may use, as OpenAI model objects with `shutdown_date`; job types as `job:NAME`."""

    async def model(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """Return one of them, or raise NotFound with code `model_not_found`."""

    async def request_record(self, headers: Mapping[str, str], request_id: str) -> dict[str, object]:
        """Return what one request of this key's project cost and why; NotFound for anybody else's."""

    async def task(self, headers: Mapping[str, str], task_id: str) -> tuple[dict[str, object], Headers]:
        """Return a task of this key's project, and headers for it; NotFound for anybody else's."""

    async def tasks(self, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, object]:
        """List the tasks of this key's project, newest first; `query` may have `limit`, `after` and `status`."""

    async def cancel_task(self, headers: Mapping[str, str], task_id: str) -> tuple[dict[str, object], Headers]:
        """Cancel a task of this key's project; return it and headers. NotFound, or NotCancellable with the reason."""

    async def asset(self, headers: Mapping[str, str], name: str, query: Mapping[str, str]) -> Outbound:
        """Return a stored image, by its signed link or by a key of its project; Forbidden or NotFound if not."""

    async def assets(self, headers: Mapping[str, str], query: Mapping[str, str]) -> dict[str, object]:
        """List the stored images of this key's project, by their ids; `query` may have `limit` and `after`."""

    async def delete_asset(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """Delete a stored image of this key's project; NotFound for anybody else's."""

    async def response(self, headers: Mapping[str, str], response_id: str, passing: PassthroughRequest) -> Outbound:
        """Ask the account that made a response of this key's project; NotFound for anybody else's."""

    async def passed(self, headers: Mapping[str, str], passing: PassthroughRequest, received: float) -> Outbound:
        """Let a request go through as it is; NotFound where policy does not."""

    def hint(self, token: str) -> Callable[[Mapping[str, str], bytes], bool] | None:
        """Return who takes a provider's call to `/v1/hints/{token}`, headers and body; None if nobody waits for it."""

    async def variations(self, headers: Mapping[str, str]) -> None:
        """Refuse the endpoint that the vendor retired; raises Retired, or InvalidApiKey first."""

    async def ready(self) -> list[str]:
        """Return what stands in the way of serving, in words; empty when ready."""
