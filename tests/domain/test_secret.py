"""A secret shows itself to nobody who did not ask for it."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from gateway.domain.route import Secret
from gateway.process.app import Settings
from gateway.process.workers import Inheritance

HIDDEN = "sk-unmistakable-4711"


@dataclass(frozen=True)
class Holder:
    """Something that has one."""

    secret: Secret


def test_no_way_of_printing_shows_it() -> None:
    """`repr`, `str`, `format`, `%`, and those of what holds it, show a mask."""
    secret, holder = Secret(HIDDEN), Holder(Secret(HIDDEN))
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s %r" % (secret, secret), str(holder)]  # noqa: UP031

    assert not [text for text in shown if HIDDEN in text]
    assert secret.reveal() == HIDDEN


def test_it_is_neither_pickled_nor_made_json() -> None:
    """Whoever would write it down gets an error that does not hold it."""
    for write in (pickle.dumps, json.dumps):
        with pytest.raises(TypeError) as raised:
            write(Secret(HIDDEN))
        assert HIDDEN not in str(raised.value)


def test_a_copy_is_a_secret_too() -> None:
    """Copies, and a dataclass taken apart, hold what cannot be printed either."""
    copies = [copy.copy(Secret(HIDDEN)), copy.deepcopy(Secret(HIDDEN)), asdict(Holder(Secret(HIDDEN)))]

    assert HIDDEN not in str(copies)


def test_how_a_gateway_runs_can_be_printed(tmp_path: Path) -> None:
    """Settings with a pepper, and what a worker inherits with the store's password, show neither."""
    settings = Settings(data=tmp_path, pepper=Secret(HIDDEN))
    inherited = Inheritance("data", None, f"redis://:{HIDDEN}@store/0", 3, 4)  # type: ignore[arg-type]  # no socket is needed

    assert HIDDEN not in f"{settings} {inherited}"
