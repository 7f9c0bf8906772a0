"""Replicate's predictions: shapes, waiting, prices by image and by second, Standard Webhooks, and faults."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.sandbox.clients import Listener, image_of, over, until
from tests.sandbox.conftest import only_line, png

PRO, SCHNELL = "black-forest-labs/flux-1.1-pro", "black-forest-labs/flux-schnell"
DEV, NANO = "black-forest-labs/flux-dev", "google/nano-banana-2"
SDXL = "7762fd07cf82c948538e41f63f77d685e02b063e37e496e96eefd46c929f9bdc"


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(base_url=sandbox.replicate_url, headers=headers, timeout=70) as client:
        yield client


def create(http: httpx.Client, model: str = PRO, prefer: str = "", **more: Any) -> dict[str, Any]:
    """Create a prediction and return it."""
    given = more.pop("input", {})
    headers = {"prefer": prefer} if prefer else {}
    body = {"input": {"prompt": "cat", **given}, **more}
    answer = http.post(f"/models/{model}/predictions", json=body, headers=headers)
    assert answer.status_code in {201, 202}, answer.text
    prediction: dict[str, Any] = answer.json()
    return prediction


def done(sandbox: Sandbox, http: httpx.Client, prediction: dict[str, Any]) -> dict[str, Any]:
    """Return a prediction after it has ended, by the URL that it named."""
    over(sandbox)
    ended: dict[str, Any] = http.get(prediction["urls"]["get"]).json()
    return ended


def test_a_prediction(sandbox: Sandbox, http: httpx.Client) -> None:
    """A prediction starts, succeeds, and its output is a link to a real picture."""
    started = create(http)
    assert (started["status"], started["output"], started["version"]) == ("starting", None, "hidden")
    assert started["input"] == {"prompt": "cat"}
    assert started["urls"]["get"].endswith(f"/replicate/v1/predictions/{started['id']}")
    ended = done(sandbox, http, started)
    assert (ended["status"], ended["error"], ended["data_removed"]) == ("succeeded", None, False)
    assert ended["metrics"]["predict_time"] > 0
    fetched = httpx.get(ended["output"])
    assert (image_of(fetched).format, image_of(fetched).size) == ("WEBP", (1024, 1024))


def test_several_outputs_are_a_list(sandbox: Sandbox, http: httpx.Client) -> None:
    """A model that can make several answers with a list, of one too."""
    several = done(sandbox, http, create(http, SCHNELL, input={"num_outputs": 3, "output_format": "jpg"}))
    assert [image_of(httpx.get(link)).format for link in several["output"]] == ["JPEG"] * 3
    assert all(link.endswith(".jpg") for link in several["output"])
    assert len(done(sandbox, http, create(http, SCHNELL))["output"]) == 1


def test_waiting_for_the_result(sandbox: Sandbox, http: httpx.Client) -> None:
    """`Prefer: wait` answers 201 with the result, or 202 with what there is when the time is over."""
    headers = {"prefer": "wait"}
    answer = http.post(f"/models/{PRO}/predictions", json={"input": {"prompt": "cat"}}, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (201, "succeeded")
    sandbox.fault("stuck")
    headers = {"prefer": "wait=1"}
    answer = http.post(f"/models/{PRO}/predictions", json={"input": {"prompt": "cat"}}, headers=headers)
    assert (answer.status_code, answer.json()["status"], answer.json()["output"]) == (202, "processing", None)


@pytest.mark.parametrize(
    ("model", "given", "nano"),
    [
        (PRO, {}, 40_000_000),
        (DEV, {}, 25_000_000),
        (SCHNELL, {"num_outputs": 4}, 12_000_000),
        (NANO, {}, 67_000_000),
        (NANO, {"resolution": "2K"}, 101_000_000),
        (NANO, {"resolution": "4K"}, 151_000_000),
    ],
)
def test_prices_per_image(sandbox: Sandbox, http: httpx.Client, model: str, given: dict[str, Any], nano: int) -> None:
    """Each published price per image is on the bill."""
    done(sandbox, http, create(http, model, input=given))
    assert only_line(sandbox)["nano_usd"] == nano


def test_the_price_of_seconds(sandbox: Sandbox, http: httpx.Client) -> None:
    """A model on hardware costs $0.000975 for each second that `predict_time` tells, to the microsecond."""
    answer = http.post("/predictions", json={"version": SDXL, "input": {"prompt": "cat"}})
    assert answer.status_code == 201
    ended = done(sandbox, http, answer.json())
    microseconds = round(ended["metrics"]["predict_time"] * 1_000_000)
    assert only_line(sandbox)["nano_usd"] == -(-microseconds * 975 // 1000)
    assert ended["version"] == SDXL


def test_cancelled_seconds_are_charged_and_images_not(sandbox: Sandbox, http: httpx.Client) -> None:
    """Cancelling ends what is under way; time on hardware is charged as far as it went."""
    sandbox.fault("stuck", times=2)
    prediction = create(http)
    timed = http.post("/predictions", json={"version": SDXL, "input": {"prompt": "cat"}}).json()
    until(lambda: {task["state"] for task in sandbox.tasks()} == {"running"})
    cancelled = [http.post(one["urls"]["cancel"]).json() for one in (prediction, timed)]
    assert [one["status"] for one in cancelled] == ["canceled", "canceled"]
    assert only_line(sandbox)["model"] == "stability-ai/sdxl"
    assert only_line(sandbox)["images"] == 0
    assert only_line(sandbox)["nano_usd"] > 0
    assert http.post(prediction["urls"]["cancel"]).json()["status"] == "canceled"


@pytest.mark.parametrize("form", ["url", "data"])
def test_input_images(sandbox: Sandbox, http: httpx.Client, listener: Listener, form: str) -> None:
    """Inputs by URL are fetched and data URLs decoded, and both are shown with their hash."""
    content = listener.pictures["/a.png"] = png(64, 32)
    inline = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    given = {"image_input": [f"{listener.url}/a.png" if form == "url" else inline]}
    made = done(sandbox, http, create(http, NANO, input=given))
    assert (made["status"], made["input"]) == ("succeeded", {"prompt": "cat", **given})
    assert [file["bytes"] for file in sandbox.requests()[0]["files"]] == [len(content)]
    assert sandbox.tasks()[0]["operation"] == "edit"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": {}}, "input.prompt"),
        ({"input": {"prompt": "cat", "n": 2}}, "input.n"),
        ({"input": {"prompt": "cat", "aspect_ratio": "7:5"}}, "input.aspect_ratio"),
        ({"input": {"prompt": "cat", "output_format": "gif"}}, "input.output_format"),
        ({"input": {"prompt": "cat", "aspect_ratio": "custom", "width": 100}}, "input.width"),
        ({"input": {"prompt": "cat", "image_prompt": "no-uri"}}, "input.image_prompt"),
        ({"input": {"prompt": "cat"}, "webhook": "ftp://x"}, "webhook"),
        ({"input": {"prompt": "cat"}, "webhook_events_filter": ["never"]}, "webhook_events_filter"),
    ],
)
def test_what_is_refused(sandbox: Sandbox, http: httpx.Client, body: dict[str, Any], field: str) -> None:
    """A wrong body is a 422 that names the field, and begins nothing."""
    answer = http.post(f"/models/{PRO}/predictions", json=body)
    assert (answer.status_code, answer.json()["status"]) == (422, 422)
    assert answer.json()["invalid_fields"][0]["field"] == field
    assert answer.json()["title"] == "Input validation failed"
    assert sandbox.tasks() == []


def test_keys_models_and_predictions(sandbox: Sandbox, http: httpx.Client) -> None:
    """A wrong key, an unknown model and an unknown prediction each have their own answer."""
    wrong = http.get("/account", headers={"authorization": "Bearer no"})
    assert (wrong.status_code, wrong.json()["title"]) == (401, "Unauthenticated")
    assert http.get("/account").status_code == 200
    assert http.post("/models/a/b/predictions", json={"input": {"prompt": "cat"}}).status_code == 404
    assert http.post("/predictions", json={"version": "0", "input": {"prompt": "cat"}}).status_code == 404
    assert http.get("/predictions/none").status_code == 404


def test_webhooks_are_signed(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """Start and completion are posted, and the `standardwebhooks` library verifies both with the account's secret."""
    secret = http.get("/webhooks/default/secret").json()["key"]
    assert secret.startswith("whsec_")
    prediction = create(http, webhook=f"{listener.url}/hook")
    calls = listener.wait_for(2)
    bodies = [Webhook(secret).verify(call.body, call.headers) for call in calls]
    assert {body["status"] for body in bodies} == {"processing", "succeeded"}
    assert {body["id"] for body in bodies} == {prediction["id"]}
    ended = next(body for body in bodies if body["status"] == "succeeded")
    assert ended == http.get(prediction["urls"]["get"]).json()


def test_webhooks_can_be_filtered(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """With a filter only completion is posted."""
    create(http, webhook=listener.url, webhook_events_filter=["completed"])
    over(sandbox)
    [call] = listener.wait_for(1)
    assert json.loads(call.body)["status"] == "succeeded"
    assert len(sandbox.tasks()[0]["calls"]) == 1


def test_a_forged_webhook_does_not_verify(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """A forged call claims success and is refused by the library."""
    sandbox.fault("callback_forged")
    sandbox.fault("stuck")
    secret = http.get("/webhooks/default/secret").json()["key"]
    create(http, webhook=listener.url, webhook_events_filter=["completed"])
    [call] = listener.wait_for(1)
    assert json.loads(call.body)["status"] == "succeeded"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(call.body, call.headers)


def test_results_are_removed_after_their_life() -> None:
    """When a link is dead its prediction says that the data was removed."""
    with (
        running_sandbox(SandboxOptions(latency=0, work_seconds=0, link_seconds=0)) as sandbox,
        httpx.Client(base_url=sandbox.replicate_url, headers={"authorization": f"Bearer {sandbox.api_key}"}) as http,
    ):
        ended = done(sandbox, http, create(http))
        assert (ended["status"], ended["output"], ended["data_removed"]) == ("succeeded", None, True)


def test_failures(sandbox: Sandbox, http: httpx.Client) -> None:
    """Failed work and flagged prompts end as failed with a text, and cost nothing."""
    sandbox.fault("task_error", code="E001", message="CUDA out of memory")
    failed = done(sandbox, http, create(http))
    assert (failed["status"], failed["error"], failed["output"]) == ("failed", "CUDA out of memory (E001)", None)
    flagged = done(sandbox, http, create(http, input={"prompt": "blocked-by-moderation"}))
    assert (flagged["status"], "E005" in flagged["error"]) == ("failed", True)
    assert sandbox.bill()["lines"] == []


def test_refused_on_create(sandbox: Sandbox, http: httpx.Client) -> None:
    """Throttling and an empty account come in Replicate's words."""
    sandbox.fault("rate_limit", retry_after=30)
    sandbox.fault("status", status=402, message="You have insufficient credit to run this model.")
    body = {"input": {"prompt": "cat"}}
    throttled, unpaid = (http.post(f"/models/{PRO}/predictions", json=body) for _ in range(2))
    assert throttled.json()["detail"] == "Request was throttled. Your rate limit resets in ~30s."
    assert throttled.status_code == 429
    assert (unpaid.status_code, unpaid.json()["title"]) == (402, "Insufficient credit")


def test_odd_answers(sandbox: Sandbox, http: httpx.Client) -> None:
    """A prediction can have an unknown status, an error when asked for, and no time of prediction."""
    sandbox.fault("unknown_status", word="aborted", polls=None)
    sandbox.fault("no_usage")
    odd = done(sandbox, http, create(http))
    assert (odd["status"], "metrics" in odd) == ("aborted", False)
    sandbox.fault("poll_error", status=502)
    broken = create(http)
    assert [http.get(broken["urls"]["get"]).status_code for _ in range(2)] == [502, 200]
