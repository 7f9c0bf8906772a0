"""Providers whose server follows a script."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.ports.provider import Call, Provider, UpstreamFailure
from gateway.providers.registry import open_provider
from tests.providers.calls import call, config, read_all
from tests.providers.raw_server import Connection, RawServer, Script, serving


@asynccontextmanager
async def provider_of(script: Script, **changes: object) -> AsyncIterator[tuple[Provider, RawServer]]:
    """A provider whose server follows a script."""
    async with serving(script) as server:
        provider = open_provider(config(server.url, **changes))
        try:
            yield provider, server
        finally:
            await provider.aclose()


def answering(body: bytes, *, status: str = "200 OK", headers: str = "") -> Script:
    """A script that answers every request alike."""

    async def script(connection: Connection) -> None:
        while True:
            await connection.request()
            await connection.answer(body, status=status, headers=headers)

    return script


async def failure_of(script: Script, job: Call | None = None, **changes: object) -> UpstreamFailure:
    """Send one call that must fail, at once or in its body."""
    async with provider_of(script, **changes) as (provider, _):
        with pytest.raises(UpstreamFailure) as caught:
            await read_all(await provider.send(job or call()))
        return caught.value
