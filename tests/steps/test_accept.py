"""Accept: the headers by which a client says that it may repeat its request."""

from __future__ import annotations

import pytest

from gateway.domain.errors import InvalidRequest
from gateway.ports.envelope import ClientHeaders
from gateway.steps.accept import accept, envelope_of, idempotency_key, retry_count


@pytest.mark.parametrize("key", ["a", " ", "~", "order 17/3", "k" * 255])
def test_a_key_is_the_clients_own_word(key: str) -> None:
    """Any printable ASCII, up to 255 characters, is taken as it is."""
    assert idempotency_key({"idempotency-key": key}) == key


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", "a\x7f", "\xe9", "a\n"])
def test_a_key_that_cannot_be_one_is_refused(key: str) -> None:
    """The error names the header."""
    with pytest.raises(InvalidRequest, match="Idempotency-Key") as caught:
        idempotency_key({"idempotency-key": key})
    assert (caught.value.status, caught.value.param) == (400, "Idempotency-Key")


@pytest.mark.parametrize(
    ("sent", "known"),
    [
        ("jobtype", "Job-Type"),
        ("job_type", "Job-Type"),
        ("job-types", "Job-Type"),
        ("max-csot", "Max-Cost"),
        ("dryrun", "Dry-Run"),
        ("tag", "Tags"),
        ("lanes", "Lane"),
        ("max_wait", "Max-Wait"),
    ],
)
def test_a_misspelt_header_is_refused(sent: str, known: str) -> None:
    """What its sender believes to hold must not be passed over; the error names the header that is meant."""
    with pytest.raises(InvalidRequest, match=f"did you mean X-Gateway-{known}") as caught:
        accept({f"x-gateway-{sent}": "x"})
    assert caught.value.param == f"X-Gateway-{sent}".title()


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ("team=web,campaign", "'campaign' is none: a name has up to 40 letters"),
        ("team=web,a=" + "y" * 200, "'a=" + "y" * 98 + "' is none"),
        ("team=web, team=shop", "'team' is named twice"),
        (",".join(f"a{number}=b" for number in range(11)), "these are 11"),
    ],
)
def test_tags_that_are_none_are_named_with_the_rule(sent: str, why: str) -> None:
    """The error says which pair it is, and what a pair may be."""
    with pytest.raises(InvalidRequest, match="X-Gateway-Tags") as caught:
        accept({"x-gateway-tags": sent})
    assert why in caught.value.message
    assert caught.value.param == "X-Gateway-Tags"


@pytest.mark.parametrize(
    "name", ["x-gateway-name", "x-gateway-id", "x-gateway-date", "x-gateway-" + "x" * 9000, "x-gateway-"]
)
def test_a_header_of_somebody_else_is_passed_over(name: str) -> None:
    """A proxy on the way may say things of its own."""
    assert accept({name: "x"}) == accept({})


def test_no_header_is_no_key() -> None:
    """Most requests have neither."""
    assert idempotency_key({}) is None
    assert retry_count({}) is None


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("2", 2), (" 1 ", 1), ("", None), ("x", None), ("-1", None)])
def test_a_count_that_cannot_be_read_is_none(text: str, count: int | None) -> None:
    """A library sets it, so that a client is never refused for it."""
    assert retry_count({"x-stainless-retry-count": text}) == count


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-read-timeout": "12.5"}, 12.5),
        ({"x-stainless-timeout": " 90 "}, 90.0),
        ({"x-stainless-timeout": "90", "x-stainless-read-timeout": "600"}, 90.0),
        ({"x-stainless-timeout": "NOT_GIVEN", "x-stainless-read-timeout": "600"}, 600.0),
        ({"x-stainless-read-timeout": "0"}, None),
        ({"x-stainless-read-timeout": "nan"}, None),
        ({"x-stainless-read-timeout": "-1"}, None),
        ({"x-stainless-read-timeout": "1e3"}, None),
    ],
)
def test_a_library_tells_how_long_it_waits(headers: dict[str, str], seconds: float | None) -> None:
    """Whichever of the two headers can be read, the shorter time; what cannot be read is no deadline."""
    assert accept(headers).deadline == seconds


def test_the_same_words_are_read_once() -> None:
    """A client that says the same again has the very same wishes, whatever its other headers say; others have not."""
    said = {"x-gateway-job-type": "draft", "x-gateway-tags": "team=web", "x-stainless-timeout": "60"}
    first = accept({"content-length": "98", **said})
    assert accept({"content-length": "99", **said}) is first
    assert (first.job_type, first.tags, first.deadline) == ("draft", {"team": "web"}, 60.0)
    assert accept({**said, "x-gateway-degrade": "never"}) != first
    assert accept({**said, "x-stainless-timeout": "61"}).deadline == 61.0


def test_long_words_are_not_remembered() -> None:
    """Anybody may say them, before a key is looked at, so they must not fill memory."""
    said = {"x-gateway-job-type": "d" * 600}
    assert accept(said) == accept(said)
    assert accept(said) is not accept(said)


def test_what_cannot_be_read_is_refused_each_time() -> None:
    """A mistake is no wish to be remembered."""
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="X-Gateway-Degrade"):
            accept({"x-gateway-degrade": "sometimes"})


def test_headers_that_come_again_are_read_once() -> None:
    """What they say is found in one envelope, which a connection's headers keep and others do not."""
    said = {"x-gateway-lane": "fast", "idempotency-key": "order 17", "x-stainless-retry-count": "2"}
    headers = ClientHeaders(said)
    envelope = envelope_of(headers)
    assert (envelope.wishes, envelope.idempotency_key, envelope.retries) == (accept(said), "order 17", 2)
    assert envelope_of(headers) is envelope
    assert envelope_of(said) == envelope
    assert envelope_of(said) is not envelope


@pytest.mark.parametrize("said", [{"x-gateway-degrade": "sometimes"}, {"idempotency-key": ""}])
def test_headers_that_are_refused_are_refused_each_time(said: dict[str, str]) -> None:
    """Nothing is kept of them."""
    headers = ClientHeaders(said)
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            envelope_of(headers)
    assert headers.envelope is None


@pytest.mark.parametrize(
    ("text", "dry"), [("true", True), ("1", True), (" TRUE ", True), ("false", False), ("0", False), ("", False)]
)
def test_a_dry_run_is_asked_for_in_any_of_these_words(text: str, *, dry: bool) -> None:
    """Who asks for one in a word that was taken for "no" would be billed."""
    assert accept({"x-gateway-dry-run": text}).dry_run is dry


@pytest.mark.parametrize("text", ["yes", "2", "-1"])
def test_a_dry_run_that_is_neither_asked_for_nor_not_is_refused(text: str) -> None:
    """It must not be guessed which was meant."""
    with pytest.raises(InvalidRequest, match="X-Gateway-Dry-Run"):
        accept({"x-gateway-dry-run": text})


@pytest.mark.parametrize(("text", "nano"), [("0.25", 250_000_000), (" 0.25 ", 250_000_000), ("3", 3_000_000_000)])
def test_a_maximum_cost_is_an_amount_of_usd(text: str, nano: int) -> None:
    """Exactly as it was written."""
    assert accept({"x-gateway-max-cost": text}).max_cost == nano


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("30m", 1800.0), ("24h", 86_400.0), (" 1h ", 3600.0), ("1440m", 86_400.0)]
)
def test_a_task_waits_for_as_long_as_its_client_says(text: str, seconds: float) -> None:
    """Money is held for it for that long."""
    assert accept({"x-gateway-max-wait": text}).max_wait == seconds


@pytest.mark.parametrize("text", ["0s", "25h", "1441m", "1d", "90", "-1s", "1.5h", ""])
def test_a_wait_that_is_none_is_refused(text: str) -> None:
    """No time at all would fail every task, and beyond a day nothing is held."""
    with pytest.raises(InvalidRequest, match="X-Gateway-Max-Wait"):
        accept({"x-gateway-max-wait": text})
