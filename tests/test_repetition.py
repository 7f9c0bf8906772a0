"""Repetition: which requests are one and the same, and that nobody can name another's."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from gateway.domain.caller import Caller
from gateway.domain.idempotency import Binding
from gateway.domain.job import Operation
from gateway.ports import Body, Inbound
from gateway.request.repetition import digest, ties
from tests.steps.test_classify import FieldsOnly

CALLER = Caller("key_1", "team")


def inbound(operation: Operation = Operation.GENERATE, model: str | None = None, **headers: str) -> Inbound:
    """A request of these headers; its body is asked for by nobody."""

    async def read_body() -> Body:
        raise AssertionError("not read here")

    lower = {name.replace("_", "-"): value for name, value in headers.items()}
    return Inbound("req_1", operation, model, lower, read_body, time.monotonic())


def body(fingerprint: str = "f" * 64, encoding: Any = "json") -> FieldsOnly:
    """A body with this fingerprint."""
    return FieldsOnly({}, encoding, fingerprint=fingerprint)


def keyed(request: Inbound | None = None, caller: Caller = CALLER, key: str = "k", what: Body | None = None) -> Binding:
    """The binding of a request with a key."""
    binding, orphan_name = ties(request or inbound(), caller, what or body(), key=key, retries=None)
    assert binding is not None
    assert orphan_name is None
    return binding


def test_a_plain_request_is_tied_to_nothing() -> None:
    """Two requests that say nothing of repeating are two requests, though they be the same in every byte."""
    assert ties(inbound(), CALLER, FieldsOnly({}), key=None, retries=None) == (None, None)


def test_a_key_names_the_request_and_the_rest_is_its_fingerprint() -> None:
    """The name does not depend on what is asked for; the fingerprint does, and not on who asks."""
    assert keyed() == keyed()
    assert keyed(what=body("e" * 64)).name == keyed().name
    assert keyed(what=body("e" * 64)).fingerprint != keyed().fingerprint
    assert keyed(caller=Caller("key_2", "team")).fingerprint == keyed().fingerprint
    assert not keyed().claim


@pytest.mark.parametrize(
    "other", [Caller("key_2", "team"), Caller("key_1", "other"), Caller("key_1t", "eam"), Caller("", "key_1team")]
)
def test_the_same_key_of_somebody_else_is_another_name(other: Caller) -> None:
    """Project and API key are part of the name, and cannot be shifted into one another."""
    assert keyed(caller=other).name != keyed().name


def test_everything_that_is_asked_for_is_in_the_fingerprint() -> None:
    """Operation, model in the path, job type, lane, how the body is written, and the body."""
    requests = [
        (inbound(), body()),
        (inbound(Operation.EDIT), body()),
        (inbound(model="a"), body()),
        (inbound(x_gateway_job_type="a"), body()),
        (inbound(x_gateway_lane="a"), body()),
        (inbound(x_gateway_job_type="a", x_gateway_lane="a"), body()),
        (inbound(), body(encoding="multipart")),
        (inbound(), body("0" * 64)),
    ]
    assert len({keyed(request, what=what).fingerprint for request, what in requests}) == len(requests)


def test_a_retry_without_a_key_is_known_by_what_it_asks_for() -> None:
    """The first one can be left behind, a later one claims what was; a key makes the count meaningless."""
    first, again = (ties(inbound(), CALLER, body(), key=None, retries=count) for count in (0, 1))
    assert first.binding is None
    assert again.binding is not None
    assert again.binding.claim
    assert first.orphan_name == again.orphan_name == again.binding.name
    other = ties(inbound(), Caller("key_2", "team"), body(), key=None, retries=1)
    assert other.orphan_name != first.orphan_name
    with_key = ties(inbound(), CALLER, body(), key="k", retries=1)
    assert with_key == (keyed(), None)


def test_no_two_lists_of_words_read_the_same() -> None:
    """Words keep their borders, and a word that is missing is not an empty one."""
    words = (None, "", "a", "1:a", "-", "a1:", "ä")
    lists = [made for length in range(4) for made in itertools.product(words, repeat=length)]
    assert len({digest(*made) for made in lists}) == len(lists)
