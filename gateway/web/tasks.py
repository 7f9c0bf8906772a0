"""The endpoints of tasks: look at one, list them, cancel one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from gateway.facade import Gateway
from gateway.ports import Headers
from gateway.web.context import RequestContext


class TaskEndpoints:
    """Handlers on one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def one(self, context: RequestContext) -> None:
        """Answer a task as it is now."""
        await _answer(context, *await self._gateway.task(context.headers, context.path_params["id"]))

    async def listing(self, context: RequestContext) -> None:
        """Answer the tasks of the key's project, newest first."""
        query = dict(parse_qsl(context.scope["query_string"].decode("latin-1"), keep_blank_values=True))
        await context.answer_json(await self._gateway.tasks(context.headers, query))

    async def cancel(self, context: RequestContext) -> None:
        """Cancel a task and answer it as it is then."""
        await _answer(context, *await self._gateway.cancel_task(context.headers, context.path_params["id"]))


async def _answer(context: RequestContext, told: Mapping[str, object], headers: Headers) -> None:
    body = json.dumps(told).encode()
    own = [("content-type", "application/json"), ("content-length", str(len(body)))]
    always = [("cache-control", "no-store"), ("x-request-id", context.request_id)]
    await context.start(200, [*own, *headers, *always])
    await context.write(body, more=False)
