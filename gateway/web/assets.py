"""The endpoints of stored images: one is sent, whole or in part; a project's are listed, and deleted."""

from __future__ import annotations

from urllib.parse import parse_qsl

from gateway.facade import Gateway
from gateway.ports import Outbound
from gateway.request.answer_head import end_to_end
from gateway.web.context import RequestContext


class AssetEndpoints:
    """Handlers on one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def one(self, context: RequestContext) -> Outbound | None:
        """Send a stored image; of one that is asked for by HEAD nothing is read."""
        head, headers = context.scope["method"] == "HEAD", context.headers
        if head:  # a part is asked for by GET alone (RFC 9110, 14.2)
            headers = {name: value for name, value in headers.items() if name != "range"}
        outbound = await self._gateway.asset(headers, context.path_params["id"], _query(context))
        if not head:
            return outbound
        context.send_head(outbound.status, *end_to_end(outbound.headers, context.request_id))
        await context.write(b"", more=False)
        return None

    async def listing(self, context: RequestContext) -> None:
        """List the stored images of the key's project."""
        await context.answer_json(await self._gateway.assets(context.headers, _query(context)))

    async def delete(self, context: RequestContext) -> None:
        """Delete a stored image of the key's project."""
        await context.answer_json(await self._gateway.delete_asset(context.headers, context.path_params["id"]))


def _query(context: RequestContext) -> dict[str, str]:
    return dict(parse_qsl(context.scope["query_string"].decode("latin-1"), keep_blank_values=True))
