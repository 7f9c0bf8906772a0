"""Names that nothing else has."""

from __future__ import annotations

import os
import re

from gateway.domain.random_names import random_hex, random_names


def test_names_differ_and_have_the_length_asked_for() -> None:
    """However many are taken, none comes twice, and each has all of its digits."""
    token = random_names(12)
    names = [random_hex() for _ in range(5_000)] + [token() for _ in range(5_000)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{24}", name) for name in names)
    assert len(random_names(10_000)()) == 20_000


def test_a_forked_process_makes_names_of_its_own() -> None:
    """What was fetched ahead is not used by both sides of a fork."""
    random_hex()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, random_hex().encode())
        os._exit(0)
    os.close(writer)
    own = random_hex()
    os.waitpid(child, 0)
    with os.fdopen(reader) as told:
        assert told.read() not in ("", own)
