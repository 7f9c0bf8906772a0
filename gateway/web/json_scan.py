"""JSON read piece by piece: every string validated, the long ones left where they lie.

What remains, the *text*, is the document with each long string replaced by a short marker. It is what gets parsed.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple, NoReturn

from gateway.domain.errors import InvalidRequest, RequestTooLarge
from gateway.domain.random_names import random_hex
from gateway.web.limits import BodyLimits

_QUOTE, _BACKSLASH, _SPACE = b'"'[0], b"\\"[0], 0x20
_LONGEST_ESCAPE = len(rb"\uD83D\uDE00")
_CONTENT = re.compile(
    rb"(?:"
    rb'[^"\\\x00-\x1f]++'
    rb'|\\["\\/bfnrt]'
    rb"|\\u[0-9a-cefA-CEF]HHH|\\u[dD][0-7]HH|\\u[dD][89abAB]HH\\u[dD][c-fC-F]HH"
    rb")*+".replace(b"H", b"[0-9a-fA-F]")  # Python before 3.11.5 takes too much by more than steps of one byte
)
"""The inside of a JSON string, as far as it is sound: no bare control character, no half of a surrogate pair."""
_NOT_PLAIN = bytes(range(_SPACE)) + b"\\"
_PLAIN_ALONE = bytes.maketrans(_NOT_PLAIN + b'"', bytes([_QUOTE] * len(_NOT_PLAIN)) + b"\\")
"""Changes what cannot be taken as it is written for the inside of a string."""
# No possessive group: see above.
_PLAIN = re.compile(rb'[^"\\\x00-\x08\x0b\x0c\x0e-\x1f]*+(?:"[^"\\\x00-\x1f]*+"[^"\\\x00-\x08\x0b\x0c\x0e-\x1f]*+)*')
"""A body whose strings all end, and have no escapes in them."""
_SHORT, _FEW = 4096, 16
"""Bytes and brackets of a body that is parsed without being scanned first."""
_BRACKET = re.compile(rb"[\[\]{}]")
_OPENING = b"[{"
_DATA = b'"data:'
_DECODER = codecs.getincrementaldecoder("utf-8")


def is_plain(inside: bytes) -> bool:
    """Tell whether this is the inside of a string, all of it, in which nothing is escaped."""
    return inside.translate(_PLAIN_ALONE) == inside


def sound_inside(data: bytes, start: int) -> bytes:
    """Return the inside of a string that begins or goes on at `start`, as it is written and as far as it is sound."""
    quote = data.find(b'"', start)
    inside = data[start:] if quote < 0 else data[start:quote]
    if inside.translate(_PLAIN_ALONE) == inside:  # six times as fast as the pattern
        return inside
    found = _CONTENT.match(data, start)
    return found[0] if found else b""


def invalid_json(problem: str, remedy: str, *, param: str | None = None) -> InvalidRequest:
    """Return the error for a body that is not the JSON it should be."""
    return InvalidRequest(
        f"The request's body is not valid JSON: {problem}. {remedy}", code="invalid_json", param=param
    )


class LongString(NamedTuple):
    """Where a string lies in the body, quotes included, and where its marker ends in the text (all byte offsets)."""

    start: int
    end: int
    marker_end: int


class Scanner:
    """Feed it the body in pieces, then `finish`. Every error is an InvalidRequest with code `invalid_json`."""

    def __init__(self, limits: BodyLimits) -> None:
        self.text = bytearray()
        self.long_strings: list[LongString] = []
        self.marker_prefix = f"spooled-{random_hex()}-"
        self._limits = limits
        self._plain: bytes | None = b""
        self._most_plain = min(limits.data_url, limits.json_text, _SHORT)
        self._utf8 = _DECODER()
        self._received = 0
        self._rest = b""
        self._offset = 0  # of the first byte of `_rest`
        self._string: bytearray | None = None  # the string being read, while it is short
        self._string_start: int | None = None
        self._depth = 0
        self._values = 0

    @property
    def size(self) -> int:
        """Bytes that are kept here so far."""
        return len(self.text) + len(self._string or b"") + len(self._rest)

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        if self._plain is not None:
            self._plain += data
            if len(self._plain) <= self._most_plain:
                return  # nothing is looked at before it is known whether more follows
            data, self._plain = self._plain, None
        self._scan(data)

    def _scan(self, data: bytes) -> None:
        self._check_encoding(data)
        buffer, position = self._rest + data, 0
        while position < len(buffer):
            if self._string_start is None:
                position = self._outside(buffer, position)
            else:
                reached = self._inside(buffer, position)
                if reached is None:
                    break
                position = reached
        self._rest = buffer[position:]
        self._offset += position

    def finish(self) -> str:
        """Return the text; raises if the body ended inside a string or a character."""
        if self._plain is not None:
            body, self._plain = self._plain, None
            if self._is_plain(body):
                self.text += body
                return body.decode("ascii")
            self._scan(body)
        try:
            self._utf8.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise invalid_json("it ends inside a UTF-8 character", "Send all of it.") from error
        if self.text.startswith(codecs.BOM_UTF8):
            raise invalid_json("it begins with a byte order mark", "Send plain UTF-8 without one.")
        if self._rest:
            self._refuse_content(self._rest[0], self._offset)
        if self._string_start is not None:
            raise invalid_json(f"the string at byte {self._string_start} has no end", "Close it with a quote.")
        return self.text.decode()

    def place(self, text_offset: int) -> int:
        """Return where in the body a byte of the text stands."""
        shift = 0
        for long in self.long_strings:
            if long.marker_end <= text_offset:
                shift = long.end - long.marker_end
        return text_offset + shift

    def _is_plain(self, body: bytes) -> bool:
        """Tell whether a short body has nothing in it that must be looked for: what is wrong with it, parsing finds."""
        return (
            body.isascii()
            and _PLAIN.fullmatch(body) is not None
            and body.count(b"{") + body.count(b"[") <= min(_FEW, self._limits.json_depth)
            and body.count(b",") + 2 * _FEW <= self._limits.json_values
            and body.count(b"{") == body.count(b"}")
            and body.count(b"[") == body.count(b"]")
        )

    def _check_encoding(self, data: bytes) -> None:
        pending = len(self._utf8.getstate()[0])
        try:
            self._utf8.decode(data)
        except UnicodeDecodeError as error:
            place = self._received - pending + error.start
            raise invalid_json(
                f"byte {place} is not UTF-8", "Encode the body as UTF-8, not UTF-16 or Latin-1."
            ) from error
        self._received += len(data)

    def _outside(self, buffer: bytes, start: int) -> int:
        quote = buffer.find(b'"', start)
        end = len(buffer) if quote < 0 else quote
        between = buffer[start:end]
        self._count(between, self._offset + start)
        self._keep(between)
        if quote < 0:
            return end
        self._string_start, self._string = self._offset + quote, bytearray(b'"')
        return quote + 1

    def _count(self, between: bytes, offset: int) -> None:
        """Bound what parsing may cost before anything is parsed."""
        self._values += between.count(b",") + between.count(b"[") + between.count(b"{")
        if self._values > self._limits.json_values:
            remedy = f"At most {self._limits.json_values} values are accepted."
            raise invalid_json("it has too many values", remedy)
        for bracket in _BRACKET.finditer(between):
            self._depth += 1 if bracket[0] in _OPENING else -1
            place = offset + bracket.start()
            if self._depth > self._limits.json_depth:
                remedy = f"At most {self._limits.json_depth} levels are accepted."
                raise invalid_json(f"byte {place} nests too deeply", remedy)
            if self._depth < 0:
                raise invalid_json(f"byte {place} closes what was never opened", "Remove it.")

    def _inside(self, buffer: bytes, start: int) -> int | None:
        """Go on in a string; None if more bytes are needed to tell."""
        inside = sound_inside(buffer, start)
        end = start + len(inside)
        if self._string is not None:
            self._string += inside
            most = self._limits.data_url if self._string.startswith(_DATA) else self._limits.long_string
            if len(self._string) > most:
                self._string = None
        if end == len(buffer):
            return end
        if buffer[end] == _QUOTE:
            self._close(self._offset + end + 1)
            return end + 1
        if buffer[end] == _BACKSLASH and len(buffer) - end < _LONGEST_ESCAPE:
            return end if end > start else None
        return self._refuse_content(buffer[end], self._offset + end)

    def _close(self, end: int) -> None:
        start, string = self._string_start, self._string
        self._string_start = self._string = None
        if string is not None:
            self._keep(string + b'"')
            return
        marker = f'"{self.marker_prefix}{len(self.long_strings)}"'.encode()
        self.long_strings.append(LongString(start or 0, end, len(self.text) + len(marker)))
        self._keep(marker)

    def _keep(self, piece: bytes | bytearray) -> None:
        self.text += piece
        if len(self.text) > self._limits.json_text:
            message = f"The JSON may have {self._limits.json_text} bytes besides its images."
            raise RequestTooLarge(message)

    def _refuse_content(self, byte: int, place: int) -> NoReturn:
        if byte < _SPACE:
            remedy = r"Escape control characters in strings, such as \n."
            raise invalid_json(f"byte {place} is a control character inside a string", remedy)
        remedy = "Escapes are those of RFC 8259; surrogates come in pairs."
        raise invalid_json(f"byte {place} begins an escape that is broken or half of a pair", remedy)
