"""What most tests of metrics look at: a scrape after one event of each kind."""

from __future__ import annotations

import pytest

from tests.observe.samples import ONE_OF_EACH
from tests.observe.scraped import scraped_after


@pytest.fixture(scope="package")
def scraped() -> bytes:
    """A scrape after one event of each kind."""
    return scraped_after(*ONE_OF_EACH)
