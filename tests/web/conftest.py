"""Fixtures: a recording gateway, and its data plane on a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.web.recording import RecordingGateway, serving_gateway


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop that the gateway runs on; its transports are not asyncio's own."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def gateway() -> RecordingGateway:
    """A gateway that keeps what it is asked."""
    return RecordingGateway()


@pytest.fixture
async def port(gateway: RecordingGateway) -> AsyncIterator[int]:
    """The port where the recording gateway is served."""
    async with serving_gateway(gateway) as number:
        yield number
