"""What reads what strangers send: each reader as a function of bytes, cut in pieces, to a value that can be compared.

A reader may raise what it declares and nothing else; what it declares becomes part of the value.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.config.documents import parse_document
from gateway.config.load import load_policy
from gateway.config.problems import Report
from gateway.domain import json_path
from gateway.domain.errors import InvalidRequest
from gateway.domain.retry import retry_after_seconds
from gateway.domain.task_profile import CallbackProfile, TaskProfile, Verification
from gateway.domain.web_address import BadUrl, read_web_address
from gateway.domain.webhook import key_of
from gateway.images.ranges import part_of
from gateway.providers.batch_results import LineScan
from gateway.providers.content import Content
from gateway.providers.elide import Elider
from gateway.providers.event_content import EventContent
from gateway.providers.foreign_errors import in_shape
from gateway.providers.long_strings import LongStrings
from gateway.providers.reading import DocumentReader, EventReader
from gateway.providers.response_reading import ResponseDocument, ResponseEvents
from gateway.providers.task_callback import Verifier, keys_of
from gateway.providers.task_outcome import error_code, error_message
from gateway.providers.task_wire import parsed
from gateway.providers.task_work import percent_of
from gateway.providers.usage import read_usage
from gateway.steps.accept import accept, idempotency_key, retry_count
from gateway.web.json_body import read_json
from gateway.web.limits import BodyLimits
from gateway.web.multipart_body import read_multipart
from tests.web.recording import in_pieces

Pieces = Sequence[bytes]
CORPUS = Path(__file__).parent / "corpus"
SMALL = BodyLimits(json_in_memory=64, long_string=200, files_in_memory=64, field=2000, fields=4000, parts=8)
"""Limits so small that short examples take the ways of long ones."""
BOUNDARY = b"b0undary"
NOW = 1_780_000_000
TODAY = date(2026, 6, 1)
REFUSED = "refused"
"""Of several faults of a body, which is found first may depend on how it comes; that it is refused may not."""
_MARKER = re.compile(r"(spooled|long)-[0-9a-f]+-")


@dataclass(frozen=True)
class Reader:
    """`read` takes the bytes in pieces; `is_cut` tells whether they come in pieces at all, `examples` how many pay."""

    read: Callable[[Pieces], object]
    is_cut: bool = True
    examples: int = 60


def _plain(value: object) -> str:
    return _MARKER.sub(r"\1-", repr(value))


def json_body(pieces: Pieces) -> object:
    """A JSON body, and what it is rendered to with a field changed."""

    async def read() -> object:
        try:
            body = await read_json(in_pieces(*pieces), SMALL, fingerprint=True)
        except InvalidRequest:
            return REFUSED
        rendered = body.render({"model": "other"})
        content = b"".join([chunk async for chunk in rendered.chunks()])
        assert len(content) == rendered.length
        json.loads(content)
        told = _plain(body.fields), body.images, body.mask, body.fingerprint, content
        try:
            inputs = await body.inputs()
            inner: object = len(inputs.images)
        except InvalidRequest as error:
            inner = error.code, _plain(error.message)
        await body.aclose()
        return told, inner

    return asyncio.run(read())


def multipart_body(pieces: Pieces) -> object:
    """A form, and what it is rendered to, but for its boundary."""

    async def read() -> object:
        try:
            body = await read_multipart(BOUNDARY, in_pieces(*pieces), SMALL, fingerprint=True)
        except InvalidRequest:
            return REFUSED
        rendered = body.render({})
        content = b"".join([chunk async for chunk in rendered.chunks()])
        assert len(content) == rendered.length
        own = rendered.content_type.rpartition("boundary=")[2].strip('"').encode()
        told = dict(body.fields), body.images, body.mask, body.fingerprint, content.replace(own, b"")
        await body.aclose()
        return told

    return asyncio.run(read())


def document(pieces: Pieces) -> object:
    """A provider's JSON answer: usage, images, and where they lie."""
    readers = DocumentReader(), ResponseDocument()
    content, strings, elider = Content(), LongStrings(), Elider(longest=16)
    elided = b""
    for piece in pieces:
        for reader in readers:
            reader.feed(piece)
        content.feed(piece)
        strings.feed(piece)
        elided += elider.feed(piece)
    for reader in readers:
        reader.end(framed=True)
    readings = [reader.reading() for reader in readers]
    return readings, content.document(), content.elements(), content.images(), elided, _plain(strings.document())


def events(pieces: Pieces) -> object:
    """A provider's server-sent events."""
    readers, content, elider = (EventReader(), ResponseEvents()), EventContent(), Elider(longest=16, lines=True)
    elided = b""
    for piece in pieces:
        for reader in readers:
            reader.feed(piece)
        content.feed(piece)
        elided += elider.feed(piece)
    for reader in readers:
        reader.end(framed=True)
    return [reader.reading() for reader in readers], content.images(), elided


def usage(pieces: Pieces) -> object:
    """What a provider counted: tokens that are none below zero, or a word of why it is not believed."""
    told = parsed(b"".join(pieces))
    found = [read_usage(told, images=images) for images in (0, 1)]
    for each in found:
        if not isinstance(each, str):
            counts = each.text_in, each.image_in, each.text_in_cached, each.image_in_cached, each.image_out
            assert min(counts) >= 0
    return found


def batch_results(pieces: Pieces) -> object:
    """Lines of a file of results."""
    scan, lines = LineScan(), []
    for piece in pieces:
        lines += scan.feed(piece)
    return lines + scan.end()


def foreign_error(pieces: Pieces) -> object:
    """An error of a provider of another shape, in ours: JSON in, JSON out."""
    found = []
    for status in (400, 429, 500):
        known, body = in_shape(status, b"".join(pieces))
        assert 400 <= known < 600
        found.append((known, body))
    return found


_PROFILE = TaskProfile(
    generations="/make",
    error_code=("error.code", "detail[*].type"),
    error_message=("error.message", "detail[*].msg", "error"),
    images=("output[*].url", "images[*].url"),
)


def task_document(pieces: Pieces) -> object:
    """The state of work at a provider."""
    told = parsed(b"".join(pieces))
    far = percent_of(json_path.first(told, "progress"))
    assert far is None or 0 <= far <= 100
    where = ("id", "status", "output[*].url", "images[0].url", "a[*][*].b", "progress")
    return (
        far,
        repr([json_path.found(told, path) for path in where]),
        error_code(_PROFILE, told),
        error_message(_PROFILE, told, "secret"),
    )


def text_of(pieces: Pieces) -> str:
    """Bytes as headers have them."""
    return b"".join(pieces).decode("latin-1")


def retry_after(pieces: Pieces) -> object:
    """Seconds or a date; never below zero."""
    seconds = retry_after_seconds(text_of(pieces), NOW)
    assert seconds is None or seconds >= 0
    return seconds


def url(pieces: Pieces) -> object:
    """A stranger's URL: what is called is what was judged, and reading it again finds the same."""
    try:
        address = read_web_address(b"".join(pieces).decode("utf-8", "replace"))
    except BadUrl as error:
        return error.reason, error.message
    assert read_web_address(str(address)) == address
    called = httpx.URL(str(address))
    assert (called.scheme, called.port or {"http": 80, "https": 443}[called.scheme]) == (address.scheme, address.port)
    assert called.raw_host.decode().strip("[]") == address.host
    assert called.userinfo == b""
    return address


def path(pieces: Pieces) -> object:
    """A JSON path of policy."""
    text = b"".join(pieces).decode("utf-8", "replace")
    try:
        steps = json_path.parse(text)
    except ValueError as error:
        return str(error)
    return steps, json_path.found({"a": [{"b": 1}, [2]], "c": {"d": None}}, text)


_PUBLIC = Ed25519PrivateKey.from_private_bytes(b"of these tests alone".ljust(32)).public_key().public_bytes_raw()


def webhook(pieces: Pieces) -> object:
    """A call that claims to be a provider's: lines are headers up to an empty one, and none is believed."""
    head, _, body = b"".join(pieces).partition(b"\n\n")
    headers = dict(_header_lines(head))
    signed = CallbackProfile(
        verify=Verification.ED25519_JWKS,
        signature_header="x-signature",
        timestamp_header="x-timestamp",
        signed_headers=("x-request-id", "x-timestamp"),
    )
    hashed = CallbackProfile(verify=Verification.HMAC_SHA256, signature_header="x-signature")
    standard = CallbackProfile(verify=Verification.STANDARD_WEBHOOKS)
    found = []
    for profile in (signed, hashed, standard):
        verifier = Verifier(profile, None, None, clock=lambda: NOW)  # type: ignore[arg-type]  # nothing is asked for
        verifier._keys = [_PUBLIC]
        assert not verifier.believes(headers, body, "a secret of this call")
        found.append(keys_of(profile, parsed(body)))
    try:
        key_of(text_of(pieces))
    except ValueError as error:
        found.append([str(error).encode()])
    return found


def headers(pieces: Pieces) -> object:
    """What a client asks of the gateway, by header lines."""
    named = dict(_header_lines(b"".join(pieces)))
    found: list[object] = [retry_count(named)]
    for read in (accept, idempotency_key):
        try:
            found.append(read(named))
        except InvalidRequest as error:
            found.append((error.code, error.param, error.message))
    return found


def _header_lines(head: bytes) -> Iterator[tuple[str, str]]:
    for line in head.decode("latin-1").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip().lower(), value.strip()


def byte_range(pieces: Pieces) -> object:
    """A `Range` header: within the image, whatever it says."""
    found = [(part_of(text_of(pieces), length), length) for length in (0, 1, 1000)]
    assert all(part is None or 0 <= part[0] <= part[1] <= length for part, length in found)
    return found


def policy_document(pieces: Pieces) -> object:
    """One file of policy: its tables, or problems with their lines."""
    data, report = b"".join(pieces), Report()
    parse_document(data, "policy.yaml", report)
    lines = len(data.decode("utf-8", "replace").splitlines()) + 1  # YAML ends lines at U+2028 and U+0085 too
    assert all(1 <= problem.line <= lines for problem in report.problems)
    return [str(problem) for problem in report.problems]


def policy(pieces: Pieces) -> object:
    """A whole policy, as `check` and a reload read it."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "policy.yaml").write_bytes(b"".join(pieces))
        loaded = load_policy(Path(folder), environ={"KEY": "sk-1"}, secrets="optional", today=TODAY)
    assert (loaded.policy is None) == bool(loaded.problems)
    return [str(problem).replace(folder, "") for problem in (*loaded.problems, *loaded.warnings)]


READERS: Mapping[str, Reader] = {
    "json_body": Reader(json_body),
    "multipart_body": Reader(multipart_body),
    "document": Reader(document),
    "events": Reader(events),
    "batch_results": Reader(batch_results),
    "usage": Reader(usage, is_cut=False),
    "foreign_error": Reader(foreign_error, is_cut=False),
    "task_document": Reader(task_document, is_cut=False),
    "retry_after": Reader(retry_after, is_cut=False),
    "url": Reader(url, is_cut=False),
    "json_path": Reader(path, is_cut=False),
    "webhook": Reader(webhook, is_cut=False),
    "headers": Reader(headers, is_cut=False),
    "range": Reader(byte_range, is_cut=False),
    "policy_document": Reader(policy_document, is_cut=False),
    "policy": Reader(policy, is_cut=False, examples=12),
}


def corpus(name: str) -> list[Path]:
    """The kept inputs of a reader."""
    return sorted((CORPUS / name).iterdir())
