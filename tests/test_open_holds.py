"""A hold ends however the answer to its call gets lost."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.domain.errors import Unavailable
from gateway.domain.settlement import CostSource
from gateway.providers.batch_results import IN_MEMORY, Results
from tests.rig import rigged


async def test_an_answer_that_the_disk_lost_is_presumed(tmp_path: Path) -> None:
    """The provider did the work and the gateway cannot read it any more: its worst case is booked, nothing is held."""
    body = {"data": [{"b64_json": "A" * IN_MEMORY}]}
    line = {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None}

    async def file() -> AsyncIterator[bytes]:
        yield json.dumps(line).encode()

    results = Results()
    await results.take(file())
    found = results.line("a")
    assert found is not None
    answer = await results.answer(found)
    (spool,) = results._spools.values()
    assert spool._file is not None
    spool._file.truncate(0)
    async with rigged(tmp_path) as rig:
        rig.painter.script = [answer]  # type: ignore[list-item]  # the answer of a batch, as its provider gives it
        rig.painter.go_on.set()
        with pytest.raises(Unavailable) as caught:
            await rig.ask(rig.inbound())
        await rig.settled()
        assert caught.value.should_retry is False
        spent, held = await rig.spent()
        assert held == 0
        assert spent > 0
        [ended] = rig.events.finished()
        assert ended.source == CostSource.PRESUMED
    await results.returned(read=False)
