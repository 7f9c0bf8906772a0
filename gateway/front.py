"""Front: what the gateway offers to the web layer, as a contract."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from gateway.ports import Inbound, Outbound


class Gateway(Protocol):
    """What the web layer serves. Every method raises GatewayError; headers have lower-case names."""

    async def handle(self, inbound: Inbound) -> Outbound:
        """Run one image request from key to settlement."""

    async def models(self, headers: Mapping[str, str]) -> list[dict[str, object]]:
        """List what this key may use, as OpenAI model objects with `shutdown_date`; job types as `job:NAME`."""

    async def model(self, headers: Mapping[str, str], name: str) -> dict[str, object]:
        """Return one of them, or raise NotFound with code `model_not_found`."""

    async def request_record(self, headers: Mapping[str, str], request_id: str) -> dict[str, object]:
        """Return what one request of this key's project cost and why; NotFound for anybody else's."""

    async def asset(self, headers: Mapping[str, str], name: str, query: Mapping[str, str]) -> Outbound:
        """Return a stored image, by its signed link or by a key of its project; Forbidden or NotFound if not."""

    async def variations(self, headers: Mapping[str, str]) -> None:
        """Refuse the endpoint that the vendor retired; raises Retired, or InvalidApiKey first."""

    async def ready(self) -> list[str]:
        """Return what stands in the way of serving, in words; empty when ready."""
