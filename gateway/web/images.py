"""The image endpoints: from a request to `ports.Inbound`, and to `ports.Outbound`, which is sent as the answer."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from gateway.domain.errors import NotFound
from gateway.domain.job import Operation
from gateway.facade import Gateway
from gateway.ports import Inbound, Outbound
from gateway.web.body import FORM, JSON, read_sent
from gateway.web.context import Handler, RequestContext
from gateway.web.limits import BodyLimits

_ACCEPTED = {Operation.GENERATE: (JSON,), Operation.EDIT: (FORM, JSON)}


class ImageEndpoints:
    """Handlers of the image endpoints, on one gateway."""

    def __init__(self, gateway: Gateway, limits: BodyLimits) -> None:
        self._gateway = gateway
        self._limits = limits
        self.generations: Handler = partial(self._image, Operation.GENERATE)
        self.edits: Handler = partial(self._image, Operation.EDIT)

    def _image(self, operation: Operation, context: RequestContext) -> Awaitable[Outbound]:
        inbound = Inbound(  # by place, for which Python takes half the time
            context.request_id,
            operation,
            context.path_params.get("name"),
            context.headers,
            partial(read_sent, context, _ACCEPTED[operation], self._limits),
            context.received,
            context.spare,
        )
        return self._gateway.handle(inbound)

    async def variations(self, context: RequestContext) -> None:
        """Refuse the endpoint that its vendor retired."""
        await self._gateway.variations(context.headers)
        raise NotFound("Image variations are not offered here.")
