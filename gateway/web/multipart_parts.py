"""Reading multipart/form-data as it streams in: short fields into memory, file contents into a spool."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import NoReturn

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.domain.errors import InvalidRequest, RequestTooLarge
from gateway.spool import Spool
from gateway.web.fingerprint import FormFingerprint
from gateway.web.form_fields import IMAGE, IMAGE_URLS, IMAGES, OVERLAYS, SINGLE, other_spelling
from gateway.web.limits import BodyLimits

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of every malformed body, quoting it

MAX_BOUNDARY = 200
_PLACE = re.compile(r" (?:\([0-9]+\)|at (?:index )?[0-9]+)")
"""Where the parser says that it stumbled: in the piece that it was given, which means nothing to a client."""
_NAME = re.compile(rb';[ \t]*name="?([A-Za-z0-9_\[\]-]{1,64})', re.IGNORECASE)
"""A part's name in a header that is too long to be read."""
_PLAIN_ENCODINGS = {b"", b"7bit", b"8bit", b"binary"}
_CHARSETS = {"": "utf-8", "utf-8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "latin-1"}


def invalid_multipart(problem: str, *, param: str | None = None) -> InvalidRequest:
    """Return the error for a body that is not the form it should be."""
    message = f"The request's body is not valid multipart/form-data: {problem}."
    return InvalidRequest(message, code="invalid_multipart", param=param)


@dataclass(slots=True)
class Part:
    """One part. A field has its bytes in `value`; a file lies in the spool from `start` up to `end`.

    `name`, `filename` and `content_type` are as the client sent them, unquoted.
    """

    name: str
    filename: str | None
    content_type: str | None
    is_file: bool
    start: int = 0
    end: int = 0
    value: bytearray | None = None

    @property
    def is_image(self) -> bool:
        """Whether it is an input image."""
        return self.is_file and IMAGE.fullmatch(self.name) is not None

    def text(self) -> str:
        """Return a field's text; InvalidRequest if it is not in the charset that it claims."""
        _, options = parse_options_header(self.content_type)
        charset = options.get(b"charset", b"").decode("latin-1").lower()
        try:
            return bytes(self.value or b"").decode(_CHARSETS[charset])
        except (KeyError, UnicodeDecodeError) as error:
            raise invalid_multipart(f"{self.name} is not UTF-8 text", param=self.name) from error


class PartReader:
    """Feed it the body in pieces, then `finish`. File contents go to the spool, which the caller drains."""

    def __init__(
        self, boundary: bytes, spool: Spool, limits: BodyLimits, fingerprint: FormFingerprint | None = None
    ) -> None:
        self.parts: list[Part] = []
        self._spool = spool
        self._limits = limits
        self._fingerprint = fingerprint
        self._boundary = b"\n--" + boundary
        self._before = bytearray(b"\n")  # behind which the first boundary may come at once
        self._started = self._ended = False
        self._part: Part | None = None
        self._begun = 0
        self._images = 0
        self._field_bytes = 0
        self._head: dict[bytes, bytes] = {}
        self._head_size = 0
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_size=limits.total,  # a part's headers are bounded together, in words of ours
        )

    def feed(self, data: bytes) -> None:
        """Take the next piece; InvalidRequest or RequestTooLarge if it breaks a rule."""
        if not self._started:
            data = self._skip_preamble(data)
        try:
            self._parser.write(data)
        except FormParserError as error:
            problem = _PLACE.sub("", str(error))[:200].rstrip(".")
            raise invalid_multipart(problem) from error

    def _skip_preamble(self, data: bytes) -> bytes:
        """Return what comes from the first boundary on; what stands before it means nothing (RFC 2046, 5.1.1)."""
        self._before += data
        at = self._before.find(self._boundary)
        if (at if at >= 0 else len(self._before) - len(self._boundary)) > self._limits.part_head:
            raise _without_boundary()
        if at < 0:
            return b""
        data, self._before, self._started = bytes(self._before[at + 1 :]), bytearray(), True
        return data

    def finish(self) -> list[Part]:
        """Return the parts, in order; raises if the body broke off or is empty."""
        if not self._started and self._before.strip():
            raise _without_boundary()
        if not self._ended:
            raise invalid_multipart("it ends before its closing boundary")
        if not self.parts:
            raise invalid_multipart("it has no parts")
        return self.parts

    def _on_part_begin(self) -> None:
        self._begun += 1
        if self._begun > self._limits.parts:
            raise invalid_multipart(f"it has more than {self._limits.parts} parts")
        self._head = {}
        self._head_size = 0

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._grow_head(end - start)
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._grow_head(end - start)

    def _grow_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._limits.part_head:
            problem = f"a part has more than {self._limits.part_head} bytes of headers; shorten its file name"
            name = _NAME.search(self._header_value)
            raise invalid_multipart(problem, param=name[1].decode("latin-1") if name else None)

    def _on_header_end(self) -> None:
        name, value = bytes(self._header_name).lower(), bytes(self._header_value).strip(b" \t")
        self._header_name, self._header_value = bytearray(), bytearray()
        if name in self._head:
            raise invalid_multipart(f"a part has two {name.decode('latin-1')} headers")
        if any(byte < 0x20 and byte != 0x09 for byte in value):  # noqa: PLR2004 - control characters, tab excepted
            raise invalid_multipart("a part's header has a control character")
        self._head[name] = value

    def _on_headers_finished(self) -> None:
        kind, options = parse_options_header(self._head.get(b"content-disposition"))
        if kind != b"form-data" or not options.get(b"name"):
            raise invalid_multipart("a part has no Content-Disposition: form-data with a name")
        if self._head.get(b"content-transfer-encoding", b"").lower() not in _PLAIN_ENCODINGS:
            raise invalid_multipart("a part has a Content-Transfer-Encoding; send its bytes as they are")
        name, filename = _text(options[b"name"]), options.get(b"filename")
        content_type = self._head.get(b"content-type")
        part = Part(
            name=name,
            filename=None if filename is None else _text(filename),
            content_type=None if content_type is None else _text(content_type),
            is_file=filename is not None or name in OVERLAYS or IMAGE.fullmatch(name) is not None,
        )
        self._check_name(part)
        self._check_repetition(part)
        part.start = part.end = self._spool.size
        part.value = None if part.is_file else bytearray()
        self._part = part
        self.parts.append(part)
        if self._fingerprint is not None:
            self._fingerprint.begin(part.name, part.filename, part.content_type)

    def _check_name(self, part: Part) -> None:
        plain = other_spelling(part.name)
        if plain is not None:
            raise InvalidRequest(f"{part.name[:100]!r} must be spelt {plain}.", param=part.name[:100])
        if part.name in (IMAGES, IMAGE_URLS):  # some read it in forms too: what it names would go uncounted
            raise InvalidRequest(f"{part.name} is a field of JSON; in a form send image parts.", param=part.name)
        if part.is_file and part.name in SINGLE:
            message = f"{part.name} must be a plain form field, not a file."
            raise InvalidRequest(message, param=part.name, code="invalid_type")

    def _check_repetition(self, part: Part) -> None:
        self._images += part.is_image
        if self._images > self._limits.images:
            raise InvalidRequest(f"At most {self._limits.images} images are accepted.", param="image")
        if part.name in SINGLE | OVERLAYS and any(part.name == other.name for other in self.parts):
            raise InvalidRequest(f"{part.name} was sent twice; send it once.", param=part.name)

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        assert part is not None
        if self._fingerprint is not None:
            self._fingerprint.update(memoryview(data)[start:end])
        if part.value is None:
            part.end += end - start
            if part.end - part.start > self._limits.file:
                self._refuse_size(part, self._limits.file)
            self._spool.write(memoryview(data)[start:end])
        else:
            part.value += data[start:end]
            self._field_bytes += end - start
            if len(part.value) > self._limits.field or self._field_bytes > self._limits.fields:
                self._refuse_size(part, self._limits.field)

    def _refuse_size(self, part: Part, limit: int) -> NoReturn:
        message = f"{part.name} is larger than the {limit} bytes that are accepted, or all fields are together."
        raise RequestTooLarge(message, param=part.name)

    def _on_part_end(self) -> None:
        self._part = None
        if self._fingerprint is not None:
            self._fingerprint.end()

    def _on_end(self) -> None:
        self._ended = True


def _without_boundary() -> InvalidRequest:
    return invalid_multipart("no line of it is the boundary that its Content-Type names")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise invalid_multipart("a part's header is not UTF-8") from error
