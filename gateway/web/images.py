"""The image endpoints: from a request to `ports.Inbound`, and from `ports.Outbound` to the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from gateway.domain.errors import NotFound
from gateway.domain.job import Operation
from gateway.front import Gateway
from gateway.ports import Body, Inbound
from gateway.web.body import FORM, JSON, read_body
from gateway.web.client_watch import ClientWatch
from gateway.web.context import RequestContext
from gateway.web.limits import BodyLimits
from gateway.web.outbound import send_outbound

Handler = Callable[[RequestContext], Awaitable[None]]

_REPEATABLE = ("idempotency-key", "x-stainless-retry-count")
"""Headers by which a client says that it may repeat its request; without one no fingerprint is taken."""
_ACCEPTED = {Operation.GENERATE: (JSON,), Operation.EDIT: (FORM, JSON)}


class ImageEndpoints:
    """Handlers of the image endpoints, on one gateway. `stall_seconds` is how long a client may read nothing."""

    def __init__(self, gateway: Gateway, limits: BodyLimits, stall_seconds: float) -> None:
        self._gateway = gateway
        self._limits = limits
        self._stall_seconds = stall_seconds
        self.generations: Handler = partial(self._image, Operation.GENERATE)
        self.edits: Handler = partial(self._image, Operation.EDIT)

    async def _image(self, operation: Operation, context: RequestContext) -> None:
        watch = ClientWatch(context)
        inbound = Inbound(
            request_id=context.request_id,
            operation=operation,
            path_model=context.path_params.get("name"),
            headers=context.headers,
            content_length=context.content_length,
            read_body=partial(self._read, operation, context, watch),
            received=context.received,
        )
        try:
            outbound = await watch.until_gone(self._gateway.handle(inbound))
            await send_outbound(context, outbound, self._stall_seconds, watch)
        finally:
            watch.end()

    async def _read(self, operation: Operation, context: RequestContext, watch: ClientWatch) -> Body:
        context.expect_body()
        body = await read_body(
            context.headers,
            context.receive,
            accepted=_ACCEPTED[operation],
            content_length=context.content_length,
            limits=self._limits,
            fingerprint=any(name in context.headers for name in _REPEATABLE),
        )
        watch.begin()
        return body

    async def variations(self, context: RequestContext) -> None:
        """Refuse the endpoint that its vendor retired."""
        await self._gateway.variations(context.headers)
        raise NotFound("Image variations are not offered here.")
