"""fal's queue: its URLs, billable units, Ed25519 webhooks, failures that show in the result, and faults."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from gateway.sandbox.client import Sandbox
from tests.sandbox.clients import Call, Listener, image_of, over, until
from tests.sandbox.conftest import only_line, png

GPT, EDIT, SCHNELL = "/openai/gpt-image-2", "/openai/gpt-image-2/edit", "/fal-ai/flux/schnell"


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=sandbox.fal_url, headers={"authorization": f"Key {sandbox.api_key}"}, timeout=20
    ) as client:
        yield client


def submit(http: httpx.Client, path: str = SCHNELL, webhook: str | None = None, **body: Any) -> dict[str, Any]:
    """Submit a request and return the answer."""
    query = {"fal_webhook": webhook} if webhook else {}
    answer = http.post(path, params=query, json={"prompt": "cat", **body})
    assert answer.status_code == 200, answer.text
    submitted: dict[str, Any] = answer.json()
    return submitted


def verified(http: httpx.Client, call: Call) -> bool:
    """Check a webhook as fal's documentation says, with any of the published keys."""
    headers = call.headers
    assert abs(time.time() - int(headers["x-fal-webhook-timestamp"])) < 300
    lines = [
        headers["x-fal-webhook-request-id"],
        headers["x-fal-webhook-user-id"],
        headers["x-fal-webhook-timestamp"],
        hashlib.sha256(call.body).hexdigest(),
    ]
    for key in http.get("/.well-known/jwks.json").json()["keys"]:
        public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"]))
        try:
            public.verify(bytes.fromhex(headers["x-fal-webhook-signature"]), "\n".join(lines).encode())
        except InvalidSignature:
            continue
        return True
    return False


def test_a_request_through_the_queue(sandbox: Sandbox, http: httpx.Client) -> None:
    """The URLs of the answer lead to status and result; the result has the documented shape and its units."""
    submitted = submit(http, num_images=2)
    assert (submitted["status"], submitted["queue_position"]) == ("IN_QUEUE", 0)
    assert submitted["response_url"].endswith(f"/fal/fal-ai/flux/requests/{submitted['request_id']}")
    words = set()

    def completed() -> bool:
        answer = http.get(submitted["status_url"])
        words.add((answer.json()["status"], answer.status_code))
        return bool(answer.json()["status"] == "COMPLETED")

    until(completed)
    assert words <= {("IN_QUEUE", 202), ("IN_PROGRESS", 202), ("COMPLETED", 200)}
    result = http.get(submitted["response_url"])
    images = result.json()["images"]
    assert result.headers["x-fal-billable-units"] == "2"
    for image in images:
        fetched = httpx.get(image["url"])
        assert image_of(fetched).size == (image["width"], image["height"]) == (1024, 768)
        assert (image["content_type"], image["file_size"]) == ("image/jpeg", len(fetched.content))
    assert result.json()["has_nsfw_concepts"] == [False, False]


def test_the_path_of_a_request_drops_the_sub_path(sandbox: Sandbox, http: httpx.Client) -> None:
    """A request is found under owner and alias alone; a URL rebuilt from the model's path finds nothing."""
    submitted = submit(http, "/fal-ai/flux-pro/v1.1")
    over(sandbox)
    assert "/fal/fal-ai/flux-pro/requests/" in submitted["response_url"]
    assert http.get(submitted["response_url"]).status_code == 200
    assert http.get(f"/fal-ai/flux-pro/v1.1/requests/{submitted['request_id']}").status_code in {404, 405}
    assert http.get(f"/fal-ai/flux/requests/{submitted['request_id']}").status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "nano"),
    [
        # fal's published prices of gpt-image-2 by quality and size.
        (GPT, {"quality": "low", "image_size": "square_hd"}, 6_000_000),
        (GPT, {"quality": "medium", "image_size": "square_hd"}, 53_000_000),
        (GPT, {"quality": "high", "image_size": "square_hd"}, 211_000_000),
        (GPT, {"image_size": {"width": 1024, "height": 1024}, "num_images": 2}, 422_000_000),
        (GPT, {}, 145_000_000),
        (GPT, {"quality": "high", "image_size": {"width": 1024, "height": 1536}}, 165_000_000),
        (GPT, {"quality": "high", "image_size": {"width": 3840, "height": 2160}}, 401_000_000),
        (SCHNELL, {"image_size": "square_hd"}, 3_000_000),
        (SCHNELL, {"image_size": {"width": 1536, "height": 1536}}, 9_000_000),
        ("/fal-ai/flux/dev", {}, 25_000_000),
        ("/fal-ai/flux-pro/v1.1", {}, 40_000_000),
        ("/fal-ai/flux-pro/v1.1-ultra", {"aspect_ratio": "16:9"}, 60_000_000),
    ],
)
def test_the_bill_is_units_times_unit_price(
    sandbox: Sandbox, http: httpx.Client, path: str, body: dict[str, Any], nano: int
) -> None:
    """Each published price is on the bill, and the header times the price that the API tells is the same."""
    submitted = submit(http, path, **body)
    over(sandbox)
    assert only_line(sandbox)["nano_usd"] == nano
    units = int(http.get(submitted["response_url"]).headers["x-fal-billable-units"])
    [price] = http.get("/v1/models/pricing", params={"endpoint_id": path[1:]}).json()["prices"]
    assert round(units * price["unit_price"] * 1e9) == nano


@pytest.mark.parametrize("form", ["url", "data"])
def test_an_edit(sandbox: Sandbox, http: httpx.Client, listener: Listener, form: str) -> None:
    """Inputs by URL or data URL are looked at and charged: the published $0.219 of an edit at 1024x1024."""
    content = png(1024, 1024)
    listener.pictures["/a.png"] = content
    inline = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    url = f"{listener.url}/a.png" if form == "url" else inline
    submit(http, EDIT, image_size="square_hd", image_urls=[url], mask_url=url)
    assert over(sandbox)["operation"] == "edit"
    assert only_line(sandbox)["nano_usd"] == 219_000_000
    seen = sandbox.requests()[0]
    assert [file["field"] for file in seen["files"]] == ["image_urls", "mask_url"]
    assert {file["sha256"] for file in seen["files"]} == {hashlib.sha256(content).hexdigest()}
    assert inline not in json.dumps(seen)


@pytest.mark.parametrize(
    ("path", "body", "where", "kind"),
    [
        (SCHNELL, {"prompt": None}, "prompt", "missing"),
        (SCHNELL, {"size": "1024x1024"}, "size", "extra_forbidden"),
        (SCHNELL, {"num_images": 9}, "num_images", "less_than_equal"),
        (SCHNELL, {"output_format": "webp"}, "output_format", "literal_error"),
        (GPT, {"quality": "ultra"}, "quality", "literal_error"),
        (GPT, {"image_size": {"width": 100, "height": 100}}, "image_size", "value_error"),
        (GPT, {"image_size": "huge"}, "image_size", "literal_error"),
        (EDIT, {}, "image_urls", "missing"),
        (EDIT, {"image_urls": ["http://127.0.0.1:9/x.png"]}, "image_urls", "file_download_error"),
        (SCHNELL, {"prompt": "blocked-by-moderation"}, "prompt", "content_policy_violation"),
    ],
)
def test_a_wrong_input_shows_in_the_result(  # noqa: PLR0917 - pytest gives fixtures by name
    sandbox: Sandbox, http: httpx.Client, path: str, body: dict[str, Any], where: str, kind: str
) -> None:
    """The queue takes anything; the status is COMPLETED with an error, and the result a 422 with `detail`."""
    submitted = submit(http, path, **body)
    over(sandbox)
    status = http.get(submitted["status_url"]).json()
    assert (status["status"], status["error_type"]) == ("COMPLETED", kind)
    result = http.get(submitted["response_url"])
    [detail] = result.json()["detail"]
    assert (result.status_code, detail["loc"], detail["type"]) == (422, ["body", where], kind)
    assert result.headers["x-fal-error-type"] == kind
    assert "x-fal-billable-units" not in result.headers
    assert sandbox.bill()["lines"] == []


def test_a_422_may_be_charged(sandbox: Sandbox, http: httpx.Client) -> None:
    """Work that was refused after it was done can be on the bill, and its result says its units."""
    sandbox.fault("moderation", stage="output", billed=True)
    submitted = submit(http)
    over(sandbox)
    result = http.get(submitted["response_url"])
    assert (result.status_code, result.headers["x-fal-billable-units"]) == (422, "1")
    assert only_line(sandbox)["nano_usd"] == 3_000_000


def test_too_early_unknown_and_without_key(sandbox: Sandbox, http: httpx.Client) -> None:
    """A result before its time is a 400, an unknown model and request a 404, another key's scheme a 401."""
    sandbox.fault("stuck")
    submitted = submit(http)
    early = http.get(submitted["response_url"])
    assert (early.status_code, early.json()["detail"]) == (400, "Request is still in progress")
    assert http.post("/fal-ai/none", json={"prompt": "cat"}).status_code == 404
    assert http.get("/fal-ai/flux/requests/none/status").status_code == 404
    bearer = {"authorization": f"Bearer {sandbox.api_key}"}
    assert http.post(SCHNELL, json={"prompt": "cat"}, headers=bearer).status_code == 401
    assert http.get(submitted["status_url"], headers=bearer).status_code == 401


def test_cancel(sandbox: Sandbox, http: httpx.Client) -> None:
    """What is under way is cancelled and not charged; what is over is not."""
    sandbox.fault("stuck")
    submitted = submit(http)
    assert http.put(submitted["cancel_url"]).status_code == 202
    again = http.put(submitted["cancel_url"])
    assert (again.status_code, again.json()["status"]) == (400, "ALREADY_COMPLETED")
    assert http.get(submitted["status_url"]).json()["error_type"] == "client_cancelled"
    assert http.get(submitted["response_url"]).status_code == 499
    assert sandbox.bill()["lines"] == []


def test_sync_mode_answers_data(sandbox: Sandbox, http: httpx.Client) -> None:
    """With `sync_mode` the picture comes as a data URL."""
    submitted = submit(http, sync_mode=True, output_format="png")
    over(sandbox)
    [image] = http.get(submitted["response_url"]).json()["images"]
    head, _, data = image["url"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data).startswith(b"\x89PNG")


def test_a_webhook_is_signed(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """A success is posted with its result and a signature that one of several published, padded keys verifies."""
    keys = http.get("/.well-known/jwks.json").json()["keys"]
    assert len(keys) > 1
    assert all(key["x"].endswith("=") for key in keys)
    submitted = submit(http, webhook=f"{listener.url}/hook")
    [call] = listener.wait_for(1)
    body = json.loads(call.body)
    assert (body["request_id"], body["status"]) == (submitted["request_id"], "OK")
    assert body["payload"]["images"] == http.get(submitted["response_url"]).json()["images"]
    assert "x-fal-billable-units" not in call.headers
    assert verified(http, call)


def test_a_webhook_of_a_failure(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """A failure is posted as ERROR with the status that the result would have."""
    submit(http, webhook=listener.url, prompt="blocked-by-moderation")
    [call] = listener.wait_for(1)
    body = json.loads(call.body)
    assert (body["status"], body["error"]) == ("ERROR", "Invalid status code: 422")
    assert body["payload"]["detail"][0]["type"] == "content_policy_violation"


def test_a_forged_webhook_does_not_verify(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """A forged call looks the same and is signed with a key that nobody published."""
    sandbox.fault("callback_forged")
    submit(http, webhook=listener.url)
    forged = [verified(http, call) for call in listener.wait_for(2)]
    assert sorted(forged) == [False, True]


@pytest.mark.parametrize(
    ("code", "status"),
    [("internal_server_error", 500), ("generation_timeout", 504), ("content_policy_violation", 422), ("odd", 500)],
)
def test_failed_work(sandbox: Sandbox, http: httpx.Client, code: str, status: int) -> None:
    """Failed work is COMPLETED with its error type, and its result has the status of that type."""
    sandbox.fault("task_error", code=code)
    submitted = submit(http)
    over(sandbox)
    assert http.get(submitted["status_url"]).json()["error_type"] == code
    result = http.get(submitted["response_url"])
    assert (result.status_code, result.headers["x-fal-error-type"]) == (status, code)


def test_usage_faults_are_of_the_header(sandbox: Sandbox, http: httpx.Client) -> None:
    """Units can be missing, none, or nonsense, while the bill says what they were."""
    sandbox.fault("no_usage")
    sandbox.fault("zero_usage")
    sandbox.fault("garbage_usage", usage="many")
    urls = [submit(http)["response_url"] for _ in range(3)]
    for number in range(3):
        over(sandbox, number)
    told = [http.get(url).headers.get("x-fal-billable-units") for url in urls]
    assert told == [None, "0", '"many"']
    assert len(sandbox.bill()["lines"]) == 3


def test_refused_on_submit(sandbox: Sandbox, http: httpx.Client) -> None:
    """Statuses come in fal's shape, and odd statuses where the word should be known."""
    sandbox.fault("status", status=503)
    sandbox.fault("rate_limit", retry_after=2)
    unavailable, limited = (http.post(SCHNELL, json={"prompt": "cat"}) for _ in range(2))
    assert (unavailable.status_code, list(unavailable.json())) == (503, ["detail"])
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "2")
    sandbox.fault("unknown_status", word="PAUSED")
    submitted = submit(http)
    assert http.get(submitted["status_url"]).json()["status"] == "PAUSED"
