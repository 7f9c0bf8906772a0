"""The image endpoints: from a request to `ports.Inbound`, and from `ports.Outbound` to the answer."""

from __future__ import annotations

from functools import partial

from gateway.domain.errors import NotFound
from gateway.domain.job import Operation
from gateway.front import Gateway
from gateway.ports import Body, Inbound
from gateway.web.body import FORM, JSON, read_body
from gateway.web.context import Handler, RequestContext
from gateway.web.limits import BodyLimits
from gateway.web.outbound import send_outbound
from gateway.web.request_stream import body_chunks

_REPEATABLE = frozenset({"idempotency-key", "x-stainless-retry-count"})
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
        inbound = Inbound(
            request_id=context.request_id,
            operation=operation,
            path_model=context.path_params.get("name"),
            headers=context.headers,
            content_length=context.head.length,
            read_body=partial(self._read, operation, context),
            received=context.received,
            spare=context.spare,
        )
        await send_outbound(context, await self._gateway.handle(inbound), self._stall_seconds)

    async def _read(self, operation: Operation, context: RequestContext) -> Body:
        context.expect_body()
        body = await read_body(
            context.headers,
            body_chunks(context, self._limits),
            accepted=_ACCEPTED[operation],
            limits=self._limits,
            fingerprint=not _REPEATABLE.isdisjoint(context.headers),
        )
        context.watch()
        return body

    async def variations(self, context: RequestContext) -> None:
        """Refuse the endpoint that its vendor retired."""
        await self._gateway.variations(context.headers)
        raise NotFound("Image variations are not offered here.")
