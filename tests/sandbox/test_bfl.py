"""Black Forest Labs: polling URLs on sister hosts, cost at submit, ten-minute links, HMAC webhooks, and faults."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.sandbox.clients import Call, Listener, image_of, over, until
from tests.sandbox.conftest import only_line, png

SECRET = "our-secret"


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.bfl_url, headers={"x-key": sandbox.api_key}, timeout=20) as client:
        yield client


def submit(http: httpx.Client, model: str = "flux-2-pro", **body: Any) -> dict[str, Any]:
    """Submit a request and return the answer."""
    answer = http.post(f"/{model}", json={"prompt": "cat", **body})
    assert answer.status_code == 200, answer.text
    submitted: dict[str, Any] = answer.json()
    return submitted


def done(sandbox: Sandbox, http: httpx.Client, submitted: dict[str, Any]) -> dict[str, Any]:
    """Return the result after the work has ended, by the polling URL."""
    over(sandbox)
    ended: dict[str, Any] = http.get(submitted["polling_url"]).json()
    return ended


def signed_with(call: Call, secret: str) -> bool:
    """Check a webhook's signature as Black Forest Labs documents it."""
    digest = hmac.new(secret.encode(), call.body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(call.headers["x-bfl-signature"], f"sha256={digest}")


def test_from_pending_to_ready(sandbox: Sandbox, http: httpx.Client) -> None:
    """The polling URL tells Pending and then Ready with a link to a real picture."""
    submitted = submit(http, width=1024, height=768)
    words = set()

    def ready() -> bool:
        words.add(http.get(submitted["polling_url"]).json()["status"])
        return "Ready" in words

    until(ready)
    assert words <= {"Pending", "Ready"}
    ended = http.get(submitted["polling_url"]).json()
    assert (ended["id"], ended["result"]["prompt"]) == (submitted["id"], "cat")
    fetched = httpx.get(ended["result"]["sample"])
    assert (image_of(fetched).size, image_of(fetched).format) == ((1024, 768), "JPEG")
    assert "x-key" not in dict(sandbox.requests()[-1]["headers"])


def test_work_is_found_at_its_polling_url_alone(sandbox: Sandbox, http: httpx.Client) -> None:
    """Asking at a URL made from the id finds nothing, for the work is done in another region."""
    submitted = submit(http)
    missing = http.get("/get_result", params={"id": submitted["id"]})
    assert (missing.status_code, missing.json()["status"]) == (404, "Task not found")
    assert http.get(submitted["polling_url"], headers={"x-key": "no"}).status_code == 403


def test_the_polling_url_can_lie_on_a_sister_host() -> None:
    """With a sister host, the polling URL names it, so that rules about hosts can be tested."""
    with (
        running_sandbox(SandboxOptions(latency=0, work_seconds=0, sister_host="localhost")) as sandbox,
        httpx.Client(base_url=sandbox.bfl_url, headers={"x-key": sandbox.api_key}) as http,
    ):
        submitted = submit(http)
        assert submitted["polling_url"].startswith("http://localhost:")
        assert done(sandbox, http, submitted)["status"] == "Ready"


@pytest.mark.parametrize(
    ("model", "body", "cents"),
    [
        # Published: text to image and image to image at one megapixel.
        ("flux-2-klein-4b", {}, 1.4),
        ("flux-2-klein-9b", {}, 1.5),
        ("flux-2-pro", {}, 3),
        ("flux-2-max", {}, 7),
        ("flux-2-flex", {}, 6),
        ("flux-2-klein-4b", {"input_image": "{}"}, 1.5),
        ("flux-2-klein-9b", {"input_image": "{}"}, 1.7),
        ("flux-2-pro", {"input_image": "{}"}, 4.5),
        ("flux-2-max", {"input_image": "{}"}, 10),
        ("flux-2-pro", {"input_image": "{}", "input_image_2": "{}"}, 6),
        ("flux-2-pro", {"width": 2048, "height": 2048}, 7.5),
        ("flux-2-pro", {"width": 1040, "height": 1024}, 4.5),
        ("flux-kontext-pro", {"input_image": "{}"}, 4),
        ("flux-kontext-max", {"aspect_ratio": "16:9"}, 8),
        ("flux-pro-1.1", {}, 4),
        ("flux-pro-1.1-ultra", {"aspect_ratio": "16:9"}, 6),
        ("flux-pro-1.0-fill", {"image": "{}", "mask": "{}"}, 5),
    ],
)
def test_the_cost_at_submit_is_what_is_charged(  # noqa: PLR0917 - pytest gives fixtures by name
    sandbox: Sandbox, http: httpx.Client, listener: Listener, model: str, body: dict[str, Any], cents: float
) -> None:
    """Each published price is told at submit, in credits of a cent, and stands on the bill once the work is done."""
    listener.pictures["/a.png"] = png(1024, 1024)
    given = {name: f"{listener.url}/a.png" if value == "{}" else value for name, value in body.items()}
    submitted = submit(http, model, **given)
    assert submitted["cost"] == cents
    assert submitted["input_mp"] == sum(name.startswith("input_image") for name in given) or model.endswith("fill")
    assert done(sandbox, http, submitted)["status"] == "Ready"
    assert only_line(sandbox)["nano_usd"] == round(cents * 10_000_000)


def test_inputs_in_any_form(sandbox: Sandbox, http: httpx.Client) -> None:
    """Inputs come as base64 alone too, are shown with their hash, and a filled picture has its size."""
    content = png(320, 160)
    encoded = base64.b64encode(content).decode()
    ended = done(sandbox, http, submit(http, "flux-pro-1.0-fill", image=encoded, output_format="png"))
    assert image_of(httpx.get(ended["result"]["sample"])).size == (320, 160)
    seen = sandbox.requests()[0]
    assert seen["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("model", "body", "field"),
    [
        ("flux-2-pro", {"prompt": None}, "prompt"),
        ("flux-2-pro", {"width": 1000}, "width"),
        ("flux-2-pro", {"height": 32}, "height"),
        ("flux-2-pro", {"width": 4096, "height": 2048}, "width"),
        ("flux-2-pro", {"output_format": "gif"}, "output_format"),
        ("flux-2-pro", {"safety_tolerance": 7}, "safety_tolerance"),
        ("flux-2-pro", {"size": "1024x1024"}, "size"),
        ("flux-2-klein-4b", {"input_image_5": "AAAA"}, "input_image_5"),
        ("flux-2-pro", {"input_image": "http://127.0.0.1:9/x.png"}, "input_image"),
        ("flux-2-pro", {"input_image": "AAAA"}, "input_image"),
        ("flux-kontext-pro", {"aspect_ratio": "9:1"}, "aspect_ratio"),
        ("flux-pro-1.0-fill", {}, "image"),
    ],
)
def test_what_is_refused(sandbox: Sandbox, http: httpx.Client, model: str, body: dict[str, Any], field: str) -> None:
    """A wrong body is a 422 with `detail`, and begins nothing."""
    answer = http.post(f"/{model}", json={"prompt": "cat", **body})
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", field]
    assert sandbox.tasks() == []


def test_keys_and_models(sandbox: Sandbox, http: httpx.Client) -> None:
    """Without its own header the key does not count; an unknown model is a 404."""
    bearer = httpx.post(
        f"{sandbox.bfl_url}/flux-2-pro", json={"prompt": "cat"}, headers={"authorization": f"Bearer {sandbox.api_key}"}
    )
    assert (bearer.status_code, bearer.json()) == (403, {"detail": "Not authenticated"})
    assert http.post("/flux-9", json={"prompt": "cat"}).status_code == 404
    assert http.get("/credits").json() == {"credits": 100_000}


def test_active_tasks_are_limited(sandbox: Sandbox, http: httpx.Client) -> None:
    """The 25th task at once is a 429 with the wait, Kontext Max has six of its own."""
    sandbox.fault("stuck", times=None)
    last = [http.post("/flux-2-pro", json={"prompt": "cat"}) for _ in range(24)][-1]
    assert (last.headers["x-ratelimit-limit"], last.headers["x-ratelimit-remaining"]) == ("24", "0")
    refused = http.post("/flux-2-pro", json={"prompt": "cat"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert refused.json() == {
        "error": "rate_limit_exceeded",
        "message": "Too many concurrent requests",
        "retry_after": 5,
    }
    statuses = [http.post("/flux-kontext-max", json={"prompt": "cat"}).status_code for _ in range(7)]
    assert statuses == [200] * 6 + [429]


def test_links_live_ten_minutes() -> None:
    """A sample is gone after its life, which is ten minutes unless an option says otherwise."""
    with (
        running_sandbox(SandboxOptions(latency=0, work_seconds=0, link_seconds=0)) as sandbox,
        httpx.Client(base_url=sandbox.bfl_url, headers={"x-key": sandbox.api_key}) as http,
    ):
        ended = done(sandbox, http, submit(http))
        assert httpx.get(ended["result"]["sample"]).status_code == 404


def test_a_webhook_and_its_other_answer(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """With a webhook there is no polling URL; the call is signed with the request's own secret."""
    submitted = submit(http, webhook_url=f"{listener.url}/hook", webhook_secret=SECRET)
    assert (submitted["status"], "polling_url" in submitted, submitted["cost"]) == ("Pending", False, 3)
    [call] = listener.wait_for(1)
    body = json.loads(call.body)
    assert (body["id"], body["status"]) == (submitted["id"], "Ready")
    assert image_of(httpx.get(body["result"]["sample"])).size == (1024, 1024)
    assert signed_with(call, SECRET)
    again = http.get("/get_result", params={"id": submitted["id"]}).json()
    assert again["result"] == body["result"]


def test_webhooks_without_secret_and_forged(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """Without a secret nothing is signed; a forged call is signed with another one."""
    submit(http, webhook_url=listener.url)
    assert "x-bfl-signature" not in listener.wait_for(1)[0].headers
    sandbox.fault("callback_forged")
    submit(http, webhook_url=listener.url, webhook_secret=SECRET)
    assert sorted(signed_with(call, SECRET) for call in listener.wait_for(3)[1:]) == [False, True]


@pytest.mark.parametrize(("stage", "status"), [("input", "Request Moderated"), ("output", "Content Moderated")])
def test_moderation(sandbox: Sandbox, http: httpx.Client, listener: Listener, stage: str, status: str) -> None:
    """What is blocked has a status of its own by its stage, and costs nothing unless the fault says so."""
    sandbox.fault("moderation", stage=stage)
    ended = done(sandbox, http, submit(http))
    assert (ended["status"], ended["result"]) == (status, None)
    assert "Moderation Reasons" in ended["details"]
    assert sandbox.bill()["lines"] == []
    sandbox.fault("moderation", stage=stage, billed=True)
    submit(http, webhook_url=listener.url)
    assert json.loads(listener.wait_for(1)[0].body)["status"] == "Error"
    assert only_line(sandbox)["nano_usd"] == 30_000_000


def test_failed_work(sandbox: Sandbox, http: httpx.Client) -> None:
    """Failed work is an Error, or what the fault names, with the message in `details`."""
    sandbox.fault("task_error", message="broken")
    failed = done(sandbox, http, submit(http))
    assert (failed["status"], failed["details"]) == ("Error", {"error": "broken"})
    sandbox.fault("task_error", code="Failed")
    assert done(sandbox, http, submit(http))["status"] == "Failed"


def test_usage_faults_are_of_the_cost(sandbox: Sandbox, http: httpx.Client) -> None:
    """The cost can be null, nothing, or nonsense, while the bill says what it was."""
    sandbox.fault("no_usage")
    sandbox.fault("zero_usage")
    sandbox.fault("garbage_usage", usage="some")
    assert [submit(http)["cost"] for _ in range(3)] == [None, 0, "some"]
    for number in range(3):
        over(sandbox, number)
    assert sandbox.bill()["total_nano_usd"] == 90_000_000


def test_refused_on_submit(sandbox: Sandbox, http: httpx.Client) -> None:
    """An empty account, a limit and an outage come in the API's shape."""
    sandbox.fault("status", status=402, message="Insufficient credits")
    sandbox.fault("rate_limit", retry_after=7)
    sandbox.fault("status", status=503)
    answers = [http.post("/flux-2-pro", json={"prompt": "cat"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [402, 429, 503]
    assert answers[0].json() == {"detail": "Insufficient credits"}
    assert (answers[1].json()["retry_after"], answers[1].headers["retry-after"]) == (7, "7")
