"""Links to stored images: good for one image and one day, and made here alone."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.errors import Forbidden
from gateway.domain.links import Signer, belongs_to, is_name, name_of

NAME, OTHER = name_of("team", "a" * 64), name_of("team", "b" * 64)
SIGNER = Signer(b"a secret of sixteen bytes")


def query(expires: int = 1_000) -> dict[str, str]:
    """The query of a good link."""
    return dict(parse_qsl(SIGNER.query(NAME, expires)))


def test_a_link_is_good_until_it_expires() -> None:
    """To the second."""
    SIGNER.check(NAME, query(), 999.9)
    SIGNER.check(NAME, query(), 1_000)
    with pytest.raises(Forbidden) as caught:
        SIGNER.check(NAME, query(), 1_000.1)
    assert caught.value.code == "link_expired"


@pytest.mark.parametrize(
    "changed",
    [{"expires": "9999"}, {"expires": ""}, {"signature": ""}, {"signature": "é"}, {"signature": "0" * 64}],
    ids=str,
)
def test_a_link_that_was_changed_is_none(changed: dict[str, str]) -> None:
    """Neither its time nor its signature."""
    with pytest.raises(Forbidden) as caught:
        SIGNER.check(NAME, {**query(), **changed}, 0)
    assert caught.value.code == "invalid_link"


def test_a_link_is_good_for_its_own_image_and_gateway() -> None:
    """Another image, or another secret, makes another signature."""
    with pytest.raises(Forbidden):
        SIGNER.check(OTHER, query(), 0)
    with pytest.raises(Forbidden):
        Signer(b"another secret of theirs").check(NAME, query(), 0)
    with pytest.raises(Forbidden):
        SIGNER.check(NAME, {}, 0)


@given(text=st.text(max_size=30) | st.just(f"{NAME}\n") | st.just(f"../{NAME}"))
def test_nothing_else_is_a_name(text: str) -> None:
    """Only what was given out may become part of a path."""
    assert not is_name(text)
    assert not belongs_to(text, "team")
