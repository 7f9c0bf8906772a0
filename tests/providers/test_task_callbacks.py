"""Callbacks from providers: believed by their signature alone, and never more than a hint to look."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from standardwebhooks import Webhook

from gateway.callbacks.hints import HintBoard
from gateway.domain.task_profile import CallbackProfile, PollTimes, Verification
from gateway.ports.provider import Provider
from gateway.providers.task_callback import Verifier
from gateway.providers.task_wire import TaskWire
from tests.providers.calls import read_all
from tests.providers.raw_server import Request
from tests.providers.task_vendor import PROFILE, Vendor, done, said, task_call, task_config, vendor_of

SELDOM = PollTimes(first=3600.0, every=3600.0, after=60.0, then=3600.0)
"""Only a callback ends a wait in time."""
SIGNED = ("acme-request-id", "acme-timestamp")
ED25519 = CallbackProfile(
    Verification.ED25519_JWKS,
    query="webhook",
    keys_url="/keys.json",
    signature_header="acme-signature",
    timestamp_header="acme-timestamp",
    signed_headers=SIGNED,
)
HMAC = CallbackProfile(Verification.HMAC_SHA256, secret_field="hook.secret", signature_header="acme-signature")
STANDARD = CallbackProfile(Verification.STANDARD_WEBHOOKS, keys_url="/secret")
NONE = CallbackProfile()
Headers = Mapping[str, str]


def board() -> HintBoard:
    """Where providers call back."""
    return HintBoard("https://gateway.example")


def take_of(hints: HintBoard, url: str) -> Callable[[Headers, bytes], bool] | None:
    """Who waits for a call to a URL."""
    return hints.find(url.rpartition("/")[2])


async def image(provider: Provider) -> dict[str, object]:
    """The answer to a call."""
    answer = await provider.send(task_call())
    try:
        return dict(json.loads(await read_all(answer)))
    finally:
        await answer.aclose()


def told_url(request: Request) -> str:
    """The URL that a submission told."""
    return str(json.loads(request.body)["callback"])


async def test_a_call_back_wakes_the_look_and_is_forgotten_with_the_work() -> None:
    """Work that would be looked at in an hour is done as soon as the provider calls; then the URL is closed."""
    hints = board()
    async with vendor_of(replace(PROFILE, callback=NONE, poll=SELDOM), hints) as (vendor, provider):
        vendor.task({"status": "processing"}, done(vendor.image("a.png")))
        sending = asyncio.create_task(image(provider))
        url = await created(vendor)
        take = take_of(hints, url)
        assert take is not None
        while not sending.done():
            assert take({}, b"{}")
            await asyncio.sleep(0.1)
        assert (await sending)["data"]
        assert take_of(hints, url) is None
        assert take({}, b"{}")  # one that was on its way already harms nothing


async def test_a_call_before_the_answer_to_the_submission_counts() -> None:
    """A provider that calls back before it has answered is looked at as soon as it has."""
    hints = board()
    async with vendor_of(replace(PROFILE, callback=NONE, poll=SELDOM), hints) as (vendor, provider):
        vendor.task(done(vendor.image("a.png")))

        def early(request: Request) -> None:
            if request.line.startswith("POST"):
                take = take_of(hints, told_url(request))
                assert take is not None
                assert take({}, b"{}")

        vendor.on_request = early
        assert (await image(provider))["data"]


async def created(vendor: Vendor) -> str:
    """The callback URL of the first submission, once it has come."""
    await vendor.seen("POST /v1/create/m1")
    return told_url(vendor.created[0])


async def test_the_secret_of_a_signature_goes_along_with_the_work() -> None:
    """Where callbacks are signed by a secret of the request, each has one of its own; a forged call wakes nothing."""
    hints = board()
    async with vendor_of(replace(PROFILE, callback=HMAC, poll=SELDOM), hints) as (vendor, provider):
        vendor.task(done(vendor.image("a.png")))
        sending = asyncio.create_task(image(provider))
        url = await created(vendor)
        secret = json.loads(vendor.created[0].body)["hook"]["secret"]
        take = take_of(hints, url)
        assert take is not None
        assert not take({"acme-signature": f"sha256={'0' * 64}"}, b"{}")
        assert not take({}, b"{}")
        signature = hmac.new(secret.encode(), b"{}", hashlib.sha256).hexdigest()
        while not sending.done():
            assert take({"acme-signature": f"sha256={signature}"}, b"{}")
            await asyncio.sleep(0.1)
        await sending


async def test_without_an_address_nothing_is_told_and_no_keys_are_read() -> None:
    """A gateway that providers cannot reach names no URL, and looks."""
    async with vendor_of(replace(PROFILE, callback=ED25519), HintBoard(None)) as (vendor, provider):
        vendor.task(done(vendor.image("a.png")))
        await image(provider)
        assert vendor.times("GET /v1/keys.json") == 0
        assert vendor.created[0].line.split(" ")[1] == "/v1/create/m1"


async def test_without_keys_no_call_back_is_asked_for() -> None:
    """Keys that cannot be read make it a matter of looking alone, and they are not asked for with every call."""
    async with vendor_of(replace(PROFILE, callback=ED25519), board()) as (vendor, provider):
        vendor.task(done(vendor.image("a.png")))
        await image(provider)
        await image(provider)
        assert vendor.times("GET /v1/keys.json") == 1
        assert "webhook=" not in vendor.created[0].line


def public(key: Ed25519PrivateKey) -> str:
    """A key as sets publish it: padded base64url."""
    return base64.urlsafe_b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


@asynccontextmanager
async def verifying(
    vendor: Vendor, profile: CallbackProfile, clock: Callable[[], float] = time.time
) -> AsyncIterator[Verifier]:
    """A verifier that has read its keys."""
    wire = TaskWire(task_config(vendor.server.url), PROFILE)
    try:
        verifier = Verifier(profile, wire, None, clock)
        assert await verifier.ready()
        yield verifier
    finally:
        await wire.aclose()


def signed(key: Ed25519PrivateKey, body: bytes, stamp: int) -> dict[str, str]:
    """The headers of a call that is signed as a line each of id, time and hash."""
    lines = ["r1", str(stamp), hashlib.sha256(body).hexdigest()]
    signature = key.sign("\n".join(lines).encode()).hex()
    return {"acme-request-id": "r1", "acme-timestamp": str(stamp), "acme-signature": signature}


async def test_ed25519_by_any_key_of_the_set() -> None:
    """A call counts by any of the published keys, for five minutes, and with not a byte of it changed."""
    old, new, now = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), 1_800_000_000
    async with vendor_of() as (vendor, _):
        keys = [{"kty": "OKP", "x": public(old)}, {"kty": "OKP", "x": public(new)}, {"x": "AAAA"}, {}]
        vendor.says("GET /v1/keys.json", said({"keys": keys}))
        async with verifying(vendor, ED25519, lambda: now) as verifier:
            for key in (old, new):
                headers = signed(key, b"body", now - 299)
                assert verifier.believes(headers, b"body", None)
                assert not verifier.believes(headers, b"Body", None)
                assert not verifier.believes({**headers, "acme-request-id": "r2"}, b"body", None)
            for stamp in (now - 301, now + 301):
                assert not verifier.believes(signed(old, b"body", stamp), b"body", None)
            stranger = signed(Ed25519PrivateKey.generate(), b"body", now)
            assert not verifier.believes(stranger, b"body", None)
            assert not verifier.believes({**stranger, "acme-signature": "zz"}, b"body", None)
            assert not verifier.believes({}, b"body", None)


async def test_keys_are_kept_for_a_day() -> None:
    """Keys are read once, and again after a day."""
    key, now = Ed25519PrivateKey.generate(), [1_800_000_000.0]
    async with vendor_of() as (vendor, _):
        vendor.says("GET /v1/keys.json", said({"keys": [{"x": public(key).rstrip("=")}]}))
        async with verifying(vendor, ED25519, lambda: now[0]) as verifier:
            now[0] += 86_000
            assert await verifier.ready()
            assert vendor.times("GET /v1/keys.json") == 1
            now[0] += 1_000
            assert await verifier.ready()
            assert vendor.times("GET /v1/keys.json") == 2


async def test_standard_webhooks_as_their_library_signs_them() -> None:
    """A call that the reference library signed counts; one of another secret, time or body does not."""
    secret = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
    async with vendor_of() as (vendor, _):
        vendor.says("GET /v1/secret", said({"key": secret}))
        async with verifying(vendor, STANDARD) as verifier:
            now = int(time.time())
            body = b'{"id":"t1"}'

            def headers(secret: str, at: int) -> dict[str, str]:
                digest = base64.b64encode(
                    hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), b"m1.%d.%s" % (at, body), "sha256")
                ).decode()
                told = {"webhook-id": "m1", "webhook-timestamp": str(at), "webhook-signature": f"v1,AAAA v1,{digest}"}
                if at == now:
                    Webhook(secret).verify(body, told)
                return told

            assert verifier.believes(headers(secret, now), body, None)
            assert not verifier.believes(headers(secret, now), body + b" ", None)
            assert not verifier.believes(headers(secret, now - 400), body, None)
            other = "whsec_" + base64.b64encode(b"another secret of ours!!!").decode()
            assert not verifier.believes(headers(other, now), body, None)
            assert not verifier.believes({}, body, None)


@pytest.mark.parametrize("profile", [NONE, HMAC])
async def test_profiles_without_published_keys_need_none(profile: CallbackProfile) -> None:
    """Where nothing is to be read, nothing is."""
    async with vendor_of() as (vendor, _), verifying(vendor, profile) as verifier:
        assert (verifier.new_secret() is None) is (profile is NONE)
        assert vendor.server.requests == []
