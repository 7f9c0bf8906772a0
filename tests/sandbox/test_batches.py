"""The OpenAI persona's Files and Batches API, by the vendor's own client."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import openai
import pytest
from openai.types import Batch

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.e2e.clients import picture

GENERATE, EDIT = "/v1/images/generations", "/v1/images/edits"
OVER = {"completed", "failed", "expired", "cancelled"}


@pytest.fixture(scope="module")
def running() -> Iterator[Sandbox]:
    """A sandbox whose batches take a moment."""
    with running_sandbox(SandboxOptions(latency=0, batch_seconds=0.4)) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    """The same, as if nothing had happened."""
    running.reset()
    return running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[openai.OpenAI]:
    """The vendor's client in front of it."""
    with openai.OpenAI(base_url=f"{sandbox.url}/openai/v1", api_key=sandbox.api_key, max_retries=0) as client:
        yield client


def line(name: str, url: str = GENERATE, **fields: object) -> dict[str, object]:
    """A line of a batch."""
    body = {"model": "gpt-image-2", "prompt": "a cat", "size": "1024x1024", "quality": "low", **fields}
    return {"custom_id": name, "method": "POST", "url": url, "body": body}


def created(client: openai.OpenAI, lines: Sequence[Mapping[str, object]], endpoint: Any = GENERATE) -> Batch:
    """Upload these lines and create a batch of them."""
    text = "\n".join(json.dumps(each) for each in lines).encode()
    file = client.files.create(file=("lines.jsonl", io.BytesIO(text)), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"mark": "m"}
    )


def over(client: openai.OpenAI, batch: Batch) -> Batch:
    """Wait for a batch's end."""
    deadline = time.monotonic() + 60
    while batch.status not in OVER:
        assert time.monotonic() < deadline
        time.sleep(0.05)
        batch = client.batches.retrieve(batch.id)
    return batch


def results(client: openai.OpenAI, file: str | None) -> dict[str, Any]:
    """The lines of a file of results, by their names."""
    assert file is not None
    lines = [json.loads(text) for text in client.files.content(file).text.splitlines()]
    return {each["custom_id"]: each for each in lines}


def test_a_batch_is_done_at_half_the_price(sandbox: Sandbox, client: openai.OpenAI) -> None:
    """Each line's image is in the file of results, and the bill says half of what the same costs by itself."""
    client.images.generate(model="gpt-image-2", prompt="a cat", size="1024x1024", quality="low")
    alone = sandbox.bill()["total_nano_usd"]
    batch = over(client, created(client, [line("a"), line("b")]))
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.request_counts is not None
    assert (batch.request_counts.total, batch.request_counts.completed) == (2, 2)
    found = results(client, batch.output_file_id)
    assert found.keys() == {"a", "b"}
    image = base64.b64decode(found["a"]["response"]["body"]["data"][0]["b64_json"])
    assert image.startswith(b"\x89PNG")
    assert sandbox.bill()["total_nano_usd"] == 2 * alone


def test_edits_take_data_urls(sandbox: Sandbox, client: openai.OpenAI) -> None:
    """A line of an edit carries its image in the JSON form."""
    image = "data:image/png;base64," + base64.b64encode(picture()).decode()
    batch = over(client, created(client, [line("a", EDIT, images=[{"image_url": image}])], EDIT))
    assert results(client, batch.output_file_id)["a"]["response"]["status_code"] == 200
    assert [each["operation"] for each in sandbox.bill()["lines"]] == ["edit"]


def test_lines_that_are_refused_are_in_the_error_file(sandbox: Sandbox, client: openai.OpenAI) -> None:
    """A moderated prompt and a wrong size fail by themselves, cost nothing, and leave the others alone."""
    lines = [line("good"), line("bad", size="17x17"), line("worse", prompt="blocked-by-moderation")]
    batch = over(client, created(client, lines))
    assert batch.status == "completed"
    assert results(client, batch.output_file_id).keys() == {"good"}
    errors = results(client, batch.error_file_id)
    assert errors["worse"]["response"]["body"]["error"]["code"] == "moderation_blocked"
    assert errors["bad"]["response"]["status_code"] == 400
    assert len(sandbox.bill()["lines"]) == 1


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([line("a"), line("a")], "duplicate_custom_id"),
        ([line("a", EDIT)], "mismatched_url"),
        ([line("a"), line("b", model="gpt-image-1.5")], "mismatched_model"),
        ([{**line("a"), "method": "GET"}], "invalid_method"),
    ],
)
def test_a_file_that_is_wrong_fails_as_a_whole(
    sandbox: Sandbox, client: openai.OpenAI, lines: list[dict[str, object]], code: str
) -> None:
    """What is wrong with a file is told by the batch, and nothing of it is done."""
    batch = over(client, created(client, lines))
    assert batch.status == "failed"
    assert batch.errors is not None
    assert batch.errors.data is not None
    assert batch.errors.data[0].code == code
    assert sandbox.bill()["lines"] == []


def test_what_cannot_be_created_is_refused(client: openai.OpenAI) -> None:
    """Another endpoint, another window, an unknown file and an unknown batch are errors in the vendor's shape."""
    file = client.files.create(file=("lines.jsonl", b"{}"), purpose="batch").id
    with pytest.raises(openai.BadRequestError):
        client.batches.create(input_file_id=file, endpoint="/v1/embeddings", completion_window="24h")
    with pytest.raises(openai.BadRequestError):
        client.batches.create(input_file_id="file-none", endpoint="/v1/images/edits", completion_window="24h")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=("lines.jsonl", b"{}"), purpose="assistants")


def test_batches_and_files_are_listed_shown_and_deleted(client: openai.OpenAI) -> None:
    """The newest batch comes first, pages follow one another, and metadata are told as they were given."""
    batches = [created(client, [line("a")]) for _ in range(3)]
    listed = list(client.batches.list(limit=2))
    assert [each.id for each in listed] == [each.id for each in reversed(batches)]
    assert listed[0].metadata == {"mark": "m"}
    files = [batch.input_file_id for batch in reversed(batches)]
    for limit in (2, 10):  # the vendor's client asks on until it is told that there are no more
        found = [file.id for file in islice(client.files.list(limit=limit), 50)]
        assert [each for each in found if each in files] == files
    file = batches[0].input_file_id
    assert client.files.retrieve(file).purpose == "batch"
    assert client.files.delete(file).deleted


def test_a_cancelled_batch_keeps_what_was_done(sandbox: Sandbox, client: openai.OpenAI) -> None:
    """Cancelling ends it early: what it did is there and charged, the rest is neither."""
    batch = created(client, [line(str(number)) for number in range(40)])
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = over(client, batch)
    assert batch.status == "cancelled"
    done = results(client, batch.output_file_id) if batch.output_file_id else {}
    assert len(done) == len(sandbox.bill()["lines"]) < 40


def test_the_faults_of_batches(sandbox: Sandbox, client: openai.OpenAI) -> None:
    """A batch may be refused, lost, fail, expire, or fail in half of its lines, and is charged for what it did."""
    lines = [line(str(number)) for number in range(20)]
    sandbox.fault("batch_not_taken")
    with pytest.raises(openai.InternalServerError):
        created(client, lines)
    sandbox.fault("batch_lost")
    with pytest.raises(openai.APIConnectionError):
        created(client, lines)
    (lost,) = list(client.batches.list())
    assert over(client, lost).status == "completed"
    sandbox.reset()
    sandbox.fault("batch_refused")
    assert over(client, created(client, lines)).status == "failed"
    sandbox.fault("batch_expired", percent=25)
    batch = over(client, created(client, lines))
    assert batch.status == "expired"
    assert len(results(client, batch.output_file_id)) == 5
    errors = results(client, batch.error_file_id)
    assert {each["error"]["code"] for each in errors.values()} == {"batch_expired"}
    assert len(errors) == 15
    sandbox.fault("batch_lines_fail")
    batch = over(client, created(client, lines))
    assert batch.status == "completed"
    good, bad = results(client, batch.output_file_id), results(client, batch.error_file_id)
    assert len(good) + len(bad) == 20
    assert good
    assert bad
    assert len(sandbox.bill()["lines"]) == 5 + len(good)
