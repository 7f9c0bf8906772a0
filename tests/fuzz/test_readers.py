"""Every reader of what strangers send: no exception but the declared one, and the same result however it is cut."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.readers import CORPUS, READERS, corpus

KEPT = [(name, path) for name in READERS for path in corpus(name)]
_FRAGMENTS = [
    b'"', b"\\", b"\\u", b"\\ud800", b"{", b"}", b"[", b"]", b":", b",", b"\n", b"\r", b"\r\n", b"\r\n\r\n", b"--",
    b"\x00", b"\xff", b"\xc3", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"0", b"-1", b"1e999", b"NaN",
    b"9" * 5000, b"true", b"null", b"A" * 300, b"[" * 70, b'{"a":' * 70, b"data: ", b"event: error\n", b"\n\n",
    b"--b0undary", b"--b0undary--", b'name="n"', b"Content-Disposition: form-data; ", b"&a ", b"*a", b"<<: ",
    b"!!python/x ",
    b"? ", b"|\n", b"${KEY}", b"%41", b"@", b"#", b"?", b"//", b"\\", b"xn--", b"0x7f", b"::1", b" ", b"\t", b"=", b";",
    b"1969-01-01", b"Fri, 31 Dec 9999 23:59:59 -2400", b"\xb2", b"\xd9\xa3",
]  # fmt: skip
"""What readers stumble over."""


def cuts(data: bytes, chance: random.Random) -> list[bytes]:
    """The bytes in some pieces, empty ones among them."""
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(1, 12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def check(name: str, data: bytes, seed: int) -> None:
    """Read the whole, and where it may come in pieces, some of its cuts and every byte alone."""
    reader = READERS[name]
    whole = reader.read([data])
    if not reader.is_cut:
        assert reader.read([data]) == whole
        return
    chance = random.Random(seed)
    for pieces in (cuts(data, chance), cuts(data, chance), [data[at : at + 1] for at in range(min(len(data), 3000))]):
        if b"".join(pieces) == data:
            assert reader.read(pieces) == whole, pieces


def mutated(data: bytes, other: bytes, chance: random.Random) -> bytes:
    """The bytes with some of them gone, doubled, changed, or replaced by what readers stumble over."""
    for _ in range(chance.randrange(1, 6)):
        at, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + chance.choice((1, 2, 8, 64, 4096)))
        kind = chance.randrange(6)
        if kind == 0:
            middle = b""
        elif kind == 1:
            middle = data[at:end] * 2
        elif kind == 2:
            middle = chance.choice(_FRAGMENTS)
        elif kind == 3:
            middle = data[at:end] + chance.choice(_FRAGMENTS)
        elif kind == 4:
            middle = chance.randbytes(end - at)
        else:
            start = chance.randrange(len(other) + 1)
            middle = other[start : start + end - at + 1]
        data = data[:at] + middle + data[end:]
    return data[:100_000]


@pytest.mark.parametrize(("name", "path"), KEPT, ids=[f"{name}-{path.name}" for name, path in KEPT])
def test_what_is_kept_is_read(name: str, path: Path) -> None:
    """Each input of the corpus, those that once broke something among them, is read in one result however it is cut."""
    data = path.read_bytes()
    for seed in range(5):
        check(name, data, seed)


@pytest.mark.parametrize("name", sorted(READERS))
def test_what_is_nearly_right_is_read(name: str) -> None:
    """Inputs made of the corpus by chance, the same ones in every run."""
    explore(name, READERS[name].examples, random.Random(f"{name}"))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", sorted(READERS))
def test_many_inputs_are_read(name: str) -> None:
    """Thirty times as many, other ones in every run; what fails is shown, to be kept in the corpus."""
    explore(name, READERS[name].examples * 30, random.Random())


def explore(name: str, examples: int, chance: random.Random) -> None:
    """Read so many mutations."""
    seeds = [path.read_bytes() for path in corpus(name)]
    for _ in range(examples):
        data = mutated(chance.choice(seeds), chance.choice(seeds), chance)
        try:
            check(name, data, chance.randrange(1 << 30))
        except Exception as error:
            raise AssertionError(f"{name} does not read {data!r}") from error


@pytest.mark.parametrize("name", sorted(READERS))
def test_any_bytes_are_read(name: str) -> None:
    """Whatever hypothesis comes up with."""

    @settings(
        max_examples=max(READERS[name].examples // 2, 10),
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
    def read(data: bytes) -> None:
        check(name, data, 1)

    read()


def test_every_folder_of_the_corpus_is_read() -> None:
    """No reader without inputs, and no inputs without a reader."""
    assert {path.name for path in CORPUS.iterdir()} == set(READERS)
