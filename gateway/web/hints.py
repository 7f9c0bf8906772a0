"""The endpoint that providers call when work is done: `POST /v1/hints/{token}`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.exceptions import HTTPException

from gateway.web.context import RequestContext
from gateway.web.limits import KIB, BodyLimits
from gateway.web.request_stream import body_chunks

LIMITS = BodyLimits(total=256 * KIB)

Find = Callable[[str], Callable[[Mapping[str, str], bytes], bool] | None]


class HintEndpoint:
    """Takes a call; a token that nobody waits for is a path that does not exist, and its body is not read."""

    def __init__(self, find: Find) -> None:
        self._find = find

    async def __call__(self, context: RequestContext) -> None:
        """Pass the call on and answer 204."""
        take = self._find(context.path_params["token"])
        if take is None:
            raise HTTPException(404)
        body = b"".join([chunk async for chunk in body_chunks(context, LIMITS)])
        if not take(context.headers, body):
            raise HTTPException(404)
        await context.start(204, [("cache-control", "no-store"), ("x-request-id", context.request_id)])
        await context.write(b"", more=False)
