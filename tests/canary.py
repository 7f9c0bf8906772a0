"""Canaries: words that must not be found where they do not belong, and the search for them.

A word is looked for as it is, as base64 (at each of the three offsets it may have in a longer text), in hexadecimal,
percent-encoded and escaped as JSON does it.
"""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.observe.log_schema import wrong

SHORTEST = 8
"""Shorter words are found by chance."""


@dataclass(frozen=True)
class Leak:
    """A canary where it must not be: which one, where, and what stands around it."""

    canary: str
    where: str
    around: str


class Canaries:
    """Words, by what they stand for."""

    def __init__(self, words: Mapping[str, str | bytes]) -> None:
        self._forms = {name: tuple(dict.fromkeys(_forms(word))) for name, word in words.items()}

    def found(self, where: str, data: bytes | str, *, but: Iterable[str] = ()) -> list[Leak]:
        """Return each canary in the data, but for those whose names are given."""
        text = data.encode(errors="replace") if isinstance(data, str) else data
        leaks = []
        for name in self._forms.keys() - set(but):
            places = [text.find(form) for form in self._forms[name] if form in text]
            if places:
                leaks.append(Leak(name, where, repr(text[max(places[0] - 80, 0) : places[0] + 80])))
        return leaks

    def found_in_folder(self, folder: Path, *, but: Callable[[str], Iterable[str]] = lambda _: ()) -> list[Leak]:
        """Return each canary in the names and the content of files; `but` says which may be in a file, by its path."""
        leaks = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
            name = str(path.relative_to(folder))
            leaks += self.found(name, name.encode() + b"\n" + path.read_bytes(), but=but(name))
        return leaks

    def found_in_store(self, url: str, *, but: Callable[[str], Iterable[str]] = lambda _: ()) -> list[Leak]:
        """Return each canary in the keys and values of a whole store; `but` says which may be under a key."""
        with redis.Redis.from_url(url) as store:
            return [
                leak
                for key in store.scan_iter(count=1000)
                for leak in self.found(key.decode(), key + b"\n" + _value(store, key), but=but(key.decode()))
            ]


def _forms(word: str | bytes) -> Iterator[bytes]:
    raw = word.encode() if isinstance(word, str) else word
    assert len(raw) >= SHORTEST, word
    yield raw
    yield raw.hex().encode()
    yield urllib.parse.quote(raw, safe="").encode()
    if isinstance(word, str):
        yield json.dumps(word)[1:-1].encode()
    for offset in range(3):
        # What the bytes before and after have a share in is left off.
        encoded = base64.b64encode(b"\0" * offset + raw)
        yield encoded[(0, 2, 3)[offset] : len(encoded) - 4]


def _value(store: redis.Redis, key: bytes) -> bytes:
    read: Mapping[str, Callable[[], object]] = {
        "string": lambda: store.get(key),
        "hash": lambda: store.hgetall(key),
        "list": lambda: store.lrange(key, 0, -1),
        "set": lambda: store.smembers(key),
        "zset": lambda: store.zrange(key, 0, -1),
        "stream": lambda: store.xrange(key),
        "none": lambda: None,
    }
    kind = store.type(key)
    return b"\n".join(_leaves(read[kind.decode() if isinstance(kind, bytes) else str(kind)]()))


def _leaves(value: object) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, Mapping):
        for pair in value.items():
            yield from _leaves(pair)
    elif isinstance(value, Iterable):
        for item in value:
            yield from _leaves(item)


def check_log(log: bytes, words: Iterable[str]) -> None:
    """Fail if a gateway's log has a line that is not as documented, or one of the words."""
    lines = log.decode(errors="replace").splitlines()
    found = wrong(lines)[:3]
    secrets = {word: word for word in words if len(word) >= SHORTEST}
    leaks = Canaries(secrets).found("the log", log)
    assert not found, found
    assert not leaks, leaks
