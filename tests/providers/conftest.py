"""Fixtures of the tests of providers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.http1.transport import Transport


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    """A transport of its own for each test."""
    transport = Transport()
    yield transport
    await transport.aclose()
