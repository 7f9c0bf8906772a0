"""What a batch brings is read as answers to calls of their own are, and each line is judged by what is known of it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from gateway.domain.batch import BatchRecord
from gateway.domain.profile import Amount, Profile
from gateway.domain.settlement import Outcome
from gateway.ledger.batches import RedisBatches
from gateway.ledger.store import Store
from gateway.ports.provider import ProviderServices, Submitted, UpstreamFailure
from gateway.providers import batch_making
from gateway.providers.batch import CUSTOM_ID
from gateway.providers.batch_wire import FULL_REST
from tests.ledger.conftest import realm, server, store  # noqa: F401 - fixtures of a real server
from tests.providers.batch_vendor import DONE, TERMS, Vendor, account, line, result
from tests.providers.calls import read_all
from tests.providers.task_vendor import Kept, png

PICTURE = base64.b64encode(png(1024, 1024)).decode()
USAGE = {
    "input_tokens": 12,
    "input_tokens_details": {"text_tokens": 12, "image_tokens": 0},
    "output_tokens": 196,
    "total_tokens": 208,
    "cost": 0.02,
}
IMAGE = {"b64_json": PICTURE}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other line is waited for."""
    monkeypatch.setattr(batch_making, "QUIET", 0.02)


def brought(*images: object) -> dict[str, object]:
    """The body of an answer."""
    return {"created": 7, "data": list(images), "usage": USAGE}


PAID = Profile(reported=Amount(path="usage.cost", usd=Fraction(1)))
BLIND = Profile(blind_usage=True)


@pytest.mark.parametrize(
    ("profile", "image", "usage", "reported"),
    [
        (Profile(), IMAGE, True, None),
        (PAID, IMAGE, True, 20_000_000),
        (BLIND, IMAGE, False, None),
        (Profile(), {"b64_json": "data:image/png;base64," + PICTURE}, True, None),
        (Profile(), {"url": "/pictures/1"}, True, None),
        (Profile(drop=("style",)), {"url": "data:image/png;base64," + PICTURE}, True, None),
        (PAID, {"url": "/pictures/1"}, True, 20_000_000),
    ],
    ids=["plain", "reported", "blind", "data URI", "link", "data URI as link", "reported link"],
)
async def test_a_line_is_read_as_the_answer_to_a_call_of_its_own(  # noqa: PLR0917 - fixtures and a table's columns
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    profile: Profile,
    image: Mapping[str, object],
    usage: object,
    reported: int | None,
) -> None:
    """Its cost is what the profile says it tells, its images are plain base64, and every one of them is counted."""
    vendor = Vendor({"file-out": [result("req_1", brought(image))]})
    async with account(vendor, store, realm, profile) as (provider, _):
        answer = await provider.send(line())
        document = json.loads(await read_all(answer))
        reading = answer.reading()
        await answer.aclose()
    assert document["data"] == [IMAGE]
    assert (reading.images, reading.complete, reading.reported) == (1, True, reported)
    assert (reading.usage is not None) is usage


async def test_a_batch_that_cannot_be_given_up_is_not_asked_for_without_a_pause(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """Overdue, then heard of again: who looked in between looks at it again as at any other."""

    class Late(RedisBatches):
        looks = 0

        async def find(self, key: str) -> BatchRecord | None:
            self.looks += 1
            found = await super().find(key)
            return None if found is None else replace(found, overdue=True)

    records, key = Late(store, realm), f"batch_{secrets.token_hex(16)}"
    await records.begin(key, 3600.0)
    known = Submitted(key, facts={CUSTOM_ID: "req_1"})
    async with account(Vendor(), store, realm, services=ProviderServices(batches=records)) as (provider, _):
        waiting = asyncio.create_task(provider.send(replace(line(), submissions=Kept({0: known}))))
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    assert 1 < records.looks < 1 / TERMS.poll + 5


async def judged(vendor: Vendor, store: Store, realm: str) -> UpstreamFailure | None:  # noqa: F811 - the fixtures' values
    """Send one line; None if it was answered, else what became of it."""
    async with account(vendor, store, realm) as (provider, _):
        try:
            answer = await provider.send(line())
        except UpstreamFailure as failure:
            return failure
        assert json.loads(await read_all(answer))["data"] == [IMAGE]
        await answer.aclose()
    return None


@pytest.mark.parametrize("other", ["", "a/b", "file-gone", 7, None])
async def test_one_file_that_cannot_be_had_takes_nothing_from_the_lines_of_the_other(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    other: object,
) -> None:
    """Be it that there is none, which some say with an empty name."""
    for names in (("file-out", other), (other, "file-out")):
        told = {"status": "completed", "output_file_id": names[0], "error_file_id": names[1]}
        vendor = Vendor({"file-out": [result("req_1", brought(IMAGE))]}, [told])
        assert await judged(vendor, store, realm) is None


async def test_of_lines_that_are_in_no_file_that_can_be_had_nobody_knows(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """Whatever the batch itself is said to have come to: they may be in the other one."""
    told = {"status": "expired", "output_file_id": "file-gone", "error_file_id": "file-out"}
    failure = await judged(Vendor({"file-out": [result("req_2", {})]}, [told]), store, realm)
    assert failure is not None
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "garbage")


@pytest.mark.parametrize("looks", [1, 3])
async def test_results_that_are_named_a_moment_after_the_end_are_read(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    looks: int,
) -> None:
    """A batch that was done has a file for every line of it."""
    unnamed = {"status": "completed", "output_file_id": None}
    vendor = Vendor({"file-out": [result("req_1", brought(IMAGE))]}, [*([unnamed] * looks), DONE])
    assert await judged(vendor, store, realm) is None
    assert vendor.looked == looks + 1


async def test_a_batch_that_never_names_its_results_is_not_asked_for_ever(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """Then what became of its lines is not known."""
    failure = await judged(Vendor(looks=[{"status": "completed"}]), store, realm)
    assert failure is not None
    assert failure.outcome is Outcome.UNKNOWN


EXPIRED = {"status": "expired", "output_file_id": "file-out", "error_file_id": None}
COUNTED = {**EXPIRED, "request_counts": {"total": 2, "completed": 2, "failed": 0}}
WHOLE = "".join(json.dumps(result(name, {"data": [IMAGE]})) + "\n" for name in ("req_0", "req_1")).encode()
UNFRAMED = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>Wait...</html>"
CUT = {
    "cut": (EXPIRED, UNFRAMED + WHOLE[:-100]),
    "page": (EXPIRED, PAGE),
    "cut at the end of a line": (COUNTED, UNFRAMED + WHOLE[: WHOLE.index(b"\n") + 1]),
}


@pytest.mark.parametrize(("told", "came"), CUT.values(), ids=list(CUT))
async def test_results_that_came_wrong_are_fetched_again(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    told: Mapping[str, object],
    came: bytes,
) -> None:
    """With a 200, and with no sign of the fault but what the file holds, or how many requests were done."""
    files = {"file-out": [result("req_0", brought(IMAGE)), result("req_1", brought(IMAGE))]}
    assert await judged(Vendor(files, [told], instead=[came]), store, realm) is None


@pytest.mark.parametrize(("told", "came"), CUT.values(), ids=list(CUT))
async def test_of_lines_that_may_be_in_what_came_wrong_nobody_knows(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    told: Mapping[str, object],
    came: bytes,
) -> None:
    """They may have been done, whatever the batch has come to."""
    failure = await judged(Vendor(looks=[told], instead=[came] * 20), store, realm)
    assert failure is not None
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "garbage")


async def test_a_line_that_is_here_does_not_wait_for_one_that_is_not(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """The batch is over and counts one more: whose line that is waits for it, and nobody else."""
    told: list[tuple[str, int]] = []
    services = ProviderServices(
        batches=RedisBatches(store, realm), batch_told=lambda _, what, lines: told.append((what, lines))
    )
    vendor = Vendor({"file-out": [result("req_1", brought(IMAGE))]}, [COUNTED])
    async with account(vendor, store, realm, services=services) as (provider, _):
        waiting = [asyncio.create_task(provider.send(line(name))) for name in ("req_1", "req_2")]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        assert ([each.done() for each in waiting], vendor.looked) == ([True, False], 1)
        answer, other = await asyncio.gather(*waiting, return_exceptions=True)
        assert not isinstance(answer, BaseException)
        assert json.loads(await read_all(answer))["data"] == [IMAGE]
        await answer.aclose()
        assert isinstance(other, UpstreamFailure)
        assert other.outcome is Outcome.UNKNOWN
        alone = await provider.send(line())
        assert json.loads(await read_all(alone))["data"] == [IMAGE]
        await alone.aclose()
    assert [each for each in told if each[0] != "created"] == [("lost", 2), ("expired", 1)]


async def test_results_that_come_compressed_are_read(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """Nobody asked for it; to throw them away would be to lose what is paid for."""
    packed = gzip.compress(WHOLE)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    assert await judged(Vendor(looks=[EXPIRED], instead=[head + packed]), store, realm) is None


async def test_results_of_a_batch_that_expired_are_waited_for_while_it_tells_of_more(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
) -> None:
    """It was done in part, and names its files a moment after its end; one of which nothing was done is over."""
    unnamed = {**COUNTED, "output_file_id": None, "request_counts": {"total": 2, "completed": 1, "failed": 0}}
    vendor = Vendor({"file-out": [result("req_1", brought(IMAGE))]}, [unnamed, {**unnamed, **EXPIRED}])
    assert await judged(vendor, store, realm) is None
    assert vendor.looked == 2
    undone = Vendor(looks=[{**unnamed, "request_counts": {"total": 2, "completed": 0, "failed": 0}}])
    failure = await judged(undone, store, realm)
    assert (failure and failure.outcome, undone.looked) == (Outcome.REJECTED, 1)


@pytest.mark.parametrize(
    ("status", "reason"), [(500, "status_5xx"), (503, "status_5xx"), (429, "batch_full"), (400, "status_4xx")]
)
@pytest.mark.parametrize("body", [None, "Internal error", [], {}], ids=str)
async def test_a_line_that_failed_without_a_word_failed_all_the_same(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    status: int,
    reason: str,
    body: object,
) -> None:
    """Its status says so, and nothing is billed for it."""
    told = {"status": "completed", "output_file_id": "", "error_file_id": "file-err"}
    failure = await judged(Vendor({"file-err": [result("req_1", body, status)]}, [told]), store, realm)
    assert failure is not None
    assert (failure.outcome, failure.reason) == (Outcome.REJECTED, reason)


@pytest.mark.parametrize("status", [201, 202, 203, 206])
async def test_a_line_of_another_success_is_an_answer(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    status: int,
) -> None:
    """As to a call of its own: its image was made, and is paid for."""
    assert await judged(Vendor({"file-out": [result("req_1", brought(IMAGE), status)]}), store, realm) is None


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("body", [None, "done"], ids=str)
async def test_a_line_that_was_done_and_shows_nothing_may_be_billed(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    status: int,
    body: object,
) -> None:
    """So does a call of its own whose answer is none."""
    failure = await judged(Vendor({"file-out": [result("req_1", body, status)]}), store, realm)
    assert failure is not None
    assert failure.outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("status", "error"),
    [
        ("400 Bad Request", {"message": "Enqueued token limit reached", "code": "token_limit_exceeded"}),
        ("429 Too Many Requests", {"message": "Slow down"}),
    ],
)
async def test_a_batch_that_the_account_has_no_room_for_rests(
    store: Store,  # noqa: F811 - the fixture
    realm: str,  # noqa: F811 - the fixture
    status: str,
    error: dict[str, Any],
) -> None:
    """By whatever status it is refused: room comes as other batches end."""
    failure = await judged(Vendor(refusal=(status, {"error": error})), store, realm)
    assert failure is not None
    assert (failure.outcome, failure.reason, failure.retry_after) == (Outcome.NOT_SENT, "batch_full", FULL_REST)
