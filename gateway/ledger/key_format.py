"""API keys as text: a prefix, 178 random bits, and a checksum that tells a typing error without a look-up."""

from __future__ import annotations

import secrets
import zlib

PREFIX = "igw_"
RANDOM_LENGTH = 30
CHECKSUM_LENGTH = 6

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ALPHABET = frozenset(_BASE62)


def random_base62(length: int) -> str:
    """Return that many random letters and digits."""
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def new_key() -> str:
    """Return a new secret, such as `igw_` and 36 letters and digits."""
    body = PREFIX + random_base62(RANDOM_LENGTH)
    return body + _checksum(body)


def well_formed(key: str) -> bool:
    """Tell whether the text can be a key: prefix, length, alphabet and checksum are right."""
    if len(key) != len(PREFIX) + RANDOM_LENGTH + CHECKSUM_LENGTH or not key.startswith(PREFIX):
        return False
    body, checksum = key[:-CHECKSUM_LENGTH], key[-CHECKSUM_LENGTH:]
    return _ALPHABET.issuperset(key[len(PREFIX) :]) and _checksum(body) == checksum


def _checksum(body: str) -> str:
    """CRC-32 in six base-62 digits, as GitHub's tokens have it."""
    rest, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(_BASE62))
        digits = _BASE62[digit] + digits
    return digits
