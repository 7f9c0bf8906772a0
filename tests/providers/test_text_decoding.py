"""What an error says reaches the client, however it was written."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from gateway.providers.text_decoding import decoded_text
from tests.providers.accounts import answering, failure_of

ERROR = {"error": {"message": "größer als erlaubt", "type": "t", "param": None, "code": "too_large"}}
TEXT = json.dumps(ERROR, ensure_ascii=False)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (TEXT.encode(), ""),
        (gzip.compress(TEXT.encode()), "gzip"),
        (gzip.compress(TEXT.encode()), " X-GZIP"),
        (zlib.compress(TEXT.encode()), "deflate"),
        (TEXT.encode(), "gzip"),
        (TEXT.encode("utf-16"), ""),
    ],
    ids=["plain", "gzip", "x-gzip", "deflate", "said to be gzip", "utf-16"],
)
async def test_an_error_keeps_its_message(body: bytes, encoding: str) -> None:
    """Compressed without being asked for, or not, as it says or not."""
    headers = f"Content-Encoding: {encoding}\r\n" if encoding else ""
    failure = await failure_of(answering(body, status="400 Bad Request", headers=headers))
    assert (failure.code, failure.pass_on) == ("too_large", True)
    assert json.loads(failure.body) == ERROR


async def test_letters_that_are_no_utf_8_cost_the_message_no_more_than_themselves() -> None:
    """A server that writes Latin-1 is understood but for those."""
    failure = await failure_of(answering(TEXT.encode("latin-1"), status="400 Bad Request"))
    assert json.loads(failure.body)["error"]["message"] == "gr\ufffd\ufffder als erlaubt"


def test_what_unpacks_to_more_than_the_limit_is_cut() -> None:
    """A small body may hold gigabytes."""
    assert decoded_text(gzip.compress(bytes(10_000_000)), "gzip", limit=1000) == bytes(1000)


@pytest.mark.parametrize("body", [b"", b"\x1f\x8b", b"\xff\xfe\x00\xd8", b"\x00", b"\xed\xa0\x80", bytes(range(256))])
@pytest.mark.parametrize("encoding", ["", "gzip", "br"])
def test_nothing_is_too_odd(body: bytes, encoding: str) -> None:
    """Whatever comes, something goes on."""
    assert isinstance(decoded_text(body, encoding, limit=100), bytes)
