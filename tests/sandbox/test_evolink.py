"""EvoLink's tasks: shapes, prices, links, calls back, and each fault that work can meet."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.sandbox.client import Sandbox
from gateway.sandbox.options import SandboxOptions
from gateway.sandbox.server import running_sandbox
from tests.sandbox.clients import Listener, image_of, listening, over, until
from tests.sandbox.conftest import only_line, png

MAIN = {"model": "gpt-image-2", "prompt": "cat", "size": "1:1"}
BETA = {"model": "gpt-image-2-beta", "prompt": "cat", "size": "1:1"}


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {sandbox.api_key}"}
    with httpx.Client(base_url=sandbox.evolink_url, headers=headers, timeout=20) as client:
        yield client


def create(http: httpx.Client, **more: Any) -> dict[str, Any]:
    """Create a task and return it."""
    answer = http.post("/images/generations", json={**MAIN, **more})
    assert answer.status_code == 200, answer.text
    task: dict[str, Any] = answer.json()
    return task


def ask(http: httpx.Client, task: dict[str, Any]) -> dict[str, Any]:
    """Return the task as it is now."""
    answer = http.get(f"/tasks/{task['id']}")
    assert answer.status_code == 200, answer.text
    now: dict[str, Any] = answer.json()
    return now


def test_a_task_from_pending_to_completed(sandbox: Sandbox, http: httpx.Client) -> None:
    """A task has the documented shape at each stage, and its links lead to real pictures of the size."""
    task = create(http, size="16:9", resolution="2K", quality="low", n=2)
    assert task["id"].startswith("task-unified-")
    assert (task["object"], task["type"], task["status"]) == ("image.generation.task", "image", "pending")
    assert task["progress"] == 0
    assert task["task_info"]["can_cancel"] is True
    assert task["usage"]["credits_reserved"] > 0
    seen = set()

    def completed() -> bool:
        now = ask(http, task)
        seen.add(now["status"])
        return bool(now["status"] == "completed")

    until(completed)
    assert seen <= {"pending", "processing", "completed"}
    done = ask(http, task)
    assert (done["progress"], done["task_info"]) == (100, {"can_cancel": False})
    assert len(done["results"]) == 2
    assert [image_of(httpx.get(link)).size for link in done["results"]] == [(2736, 1536)] * 2


def test_links_carry_no_key_and_are_seen_in_the_request_list(sandbox: Sandbox, http: httpx.Client) -> None:
    """A result needs no credentials, and whoever sent some is found out by the request list."""
    task = create(http)
    over(sandbox)
    [link] = ask(http, task)["results"]
    assert httpx.get(link).headers["content-type"] == "image/png"
    fetched = sandbox.requests()[-1]
    assert fetched["path"].startswith("/evolink/delivery/")
    assert "authorization" not in dict(fetched["headers"])
    assert httpx.get(link.replace("_0.", "_7.")).status_code == 404


@pytest.mark.parametrize(
    ("wanted", "nano"),
    [
        # 1024x1024: 196, 1756 and 7024 output tokens at $27 per million, one token of text at $4.5.
        ({"quality": "low"}, 196 * 27_000 + 4_500),
        ({}, 1_756 * 27_000 + 4_500),
        ({"quality": "high"}, 7_024 * 27_000 + 4_500),
        ({"n": 3}, 3 * (1_756 * 27_000 + 4_500)),
        (BETA, 15_000_000),
        ({**BETA, "resolution": "2K"}, 25_500_000),
        ({**BETA, "resolution": "4K"}, 39_000_000),
        ({**BETA, "size": "auto", "resolution": "4K"}, 15_000_000),
        ({**BETA, "size": "1280x1280"}, 15_000_000),
        ({**BETA, "size": "2048x2048"}, 25_500_000),
        ({**BETA, "size": "2160x3840"}, 39_000_000),
    ],
)
def test_the_bill_and_the_credits(sandbox: Sandbox, http: httpx.Client, wanted: dict[str, Any], nano: int) -> None:
    """Each published price is on the bill to the nano-dollar, and the credits are that at 68 to the dollar."""
    task = create(http, **wanted)
    over(sandbox)
    assert only_line(sandbox)["nano_usd"] == nano
    assert ask(http, task)["usage"]["credits_reserved"] == pytest.approx(nano * 68 / 1e9, abs=1e-9)
    if wanted.get("size") != "auto":
        assert task["usage"]["credits_reserved"] == ask(http, task)["usage"]["credits_reserved"]


def test_published_credits() -> None:
    """The published pairs of dollars and credits: 0.015 is 1.02, 0.0255 is 1.734, 0.039 is 2.652."""
    with running_sandbox() as sandbox, httpx.Client(timeout=20) as http:
        for resolution, told in (("1K", 1.02), ("2K", 1.734), ("4K", 2.652)):
            answer = http.post(
                f"{sandbox.evolink_url}/images/generations",
                json={**BETA, "resolution": resolution},
                headers={"authorization": f"Bearer {sandbox.api_key}"},
            )
            assert answer.json()["usage"]["credits_reserved"] == told


def test_auto_is_reserved_as_the_cap_and_charged_as_made(sandbox: Sandbox, http: httpx.Client) -> None:
    """`auto` reserves a 2048x2048 picture, and costs what came."""
    task = create(http, size="auto")
    over(sandbox)
    done = ask(http, task)
    assert done["usage"]["credits_reserved"] < task["usage"]["credits_reserved"]
    assert done["usage"]["credits_reserved"] == pytest.approx(only_line(sandbox)["nano_usd"] * 68 / 1e9)


def test_input_images_are_fetched_and_charged(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """An input named by URL is really fetched, shown with its hash, and counted by its size."""
    listener.pictures["/a.png"] = png(1024, 1024)
    create(http, quality="low", image_urls=[f"{listener.url}/a.png"])
    assert over(sandbox)["operation"] == "edit"
    [file] = sandbox.requests()[0]["files"]
    assert (file["field"], file["bytes"]) == ("image_urls", len(listener.pictures["/a.png"]))
    assert only_line(sandbox)["nano_usd"] == 196 * 27_000 + 1_024 * 7_200 + 4_500


@pytest.mark.parametrize("path", ["/missing.png", "/text.png"])
def test_an_input_that_cannot_be_used_fails_the_task(
    sandbox: Sandbox, http: httpx.Client, listener: Listener, path: str
) -> None:
    """A link that leads nowhere or to no picture is a failed task that costs nothing."""
    listener.pictures["/text.png"] = b"no picture"
    task = create(http, image_urls=[listener.url + path])
    over(sandbox)
    failed = ask(http, task)
    assert (failed["status"], failed["error"]["code"]) == ("failed", "image_processing_error")
    assert sandbox.bill()["lines"] == []


@pytest.mark.parametrize(
    ("wrong", "status", "param"),
    [
        ({"model": "dall-e-9"}, 403, None),
        ({"prompt": ""}, 400, "prompt"),
        ({"prompt": "x" * 32_001}, 400, "prompt"),
        ({**BETA, "prompt": "x" * 8_001}, 400, "prompt"),
        ({"size": "7:5"}, 400, "size"),
        ({"size": "1000x1000"}, 400, "size"),
        ({"size": "512x512"}, 400, "size"),
        ({"size": "3840x1200"}, 400, "size"),
        ({"resolution": "8K"}, 400, "resolution"),
        ({"quality": "auto"}, 400, "quality"),
        ({**BETA, "quality": "low"}, 400, "quality"),
        ({"n": 11}, 400, "n"),
        ({**BETA, "n": 2}, 400, "n"),
        ({"image_urls": []}, 400, "image_urls"),
        ({"image_urls": ["data:image/png;base64,AAAA"]}, 400, "image_urls"),
        ({"image_urls": ["http://x/"] * 17}, 400, "image_urls"),
        ({"callback_url": "https://x/" + "y" * 2048}, 400, "callback_url"),
        ({"response_format": "b64_json"}, 400, "response_format"),
        ({"output_format": "png"}, 400, "output_format"),
    ],
)
def test_what_is_refused(
    sandbox: Sandbox, http: httpx.Client, wrong: dict[str, Any], status: int, param: str | None
) -> None:
    """What the documentation does not allow is refused in its envelope, and nothing is begun."""
    answer = http.post("/images/generations", json={**MAIN, **wrong})
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error.get("param") == param
    assert isinstance(error["code"], str)
    assert sandbox.tasks() == []


def test_keys_ids_and_bodies(sandbox: Sandbox, http: httpx.Client) -> None:
    """A wrong key, a malformed id, an unknown id and a body that is no JSON each have their own answer."""
    assert httpx.post(f"{sandbox.evolink_url}/images/generations", json=MAIN).status_code == 401
    malformed = http.get("/tasks/abc")
    assert malformed.status_code == 400
    assert malformed.json()["error"]["code"] == "invalid_task_id"
    assert malformed.json()["error"]["param"] == "task_id"
    assert http.get("/tasks/task-unified-1-x").status_code == 404
    broken = http.post("/images/generations", content="{", headers={"content-type": "application/json"})
    assert broken.status_code == 400
    assert http.post("/images/edits", json=MAIN).status_code == 404
    assert http.get("/credits").json()["data"]["token"]["remaining_credits"] == 1000


def test_a_call_back_is_the_task_without_a_signature(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """The client is called back once with what asking would answer."""
    task = create(http, callback_url=f"{listener.url}/done?token=x")
    [call] = listener.wait_for(1)
    assert call.path == "/done?token=x"
    assert json.loads(call.body) == ask(http, task)
    assert not [name for name in call.headers if "sign" in name]


def test_a_call_back_is_tried_again() -> None:
    """Three further tries follow whatever is not a 2xx, and no more."""
    with (
        running_sandbox(SandboxOptions(latency=0, work_seconds=0, callback_pace=0.01)) as sandbox,
        listening() as listener,
        httpx.Client(base_url=sandbox.evolink_url, headers={"authorization": f"Bearer {sandbox.api_key}"}) as http,
    ):
        listener.statuses = [500, 302, 404, 204]
        create(http, callback_url=listener.url)
        until(lambda: sum("status" in call for call in sandbox.tasks()[0]["calls"]) == 4)
        assert [call["status"] for call in sandbox.tasks()[0]["calls"]] == [500, 302, 404, 204]
        create(http, callback_url="http://127.0.0.1:9/")
        until(lambda: len(sandbox.tasks()[1]["calls"]) == 4)
        until(lambda: all("error" in call for call in sandbox.tasks()[1]["calls"]))


def test_links_die() -> None:
    """A link answers 404 once its life is over."""
    with (
        running_sandbox(SandboxOptions(latency=0, work_seconds=0, link_seconds=0)) as sandbox,
        httpx.Client(base_url=sandbox.evolink_url, headers={"authorization": f"Bearer {sandbox.api_key}"}) as http,
    ):
        task = create(http)
        over(sandbox)
        assert httpx.get(ask(http, task)["results"][0]).status_code == 404


def test_results_can_lie_on_another_host() -> None:
    """With a delivery host, links name it, so that rules about hosts can be tested."""
    with (
        running_sandbox(SandboxOptions(latency=0, work_seconds=0, delivery_host="localhost")) as sandbox,
        httpx.Client(base_url=sandbox.evolink_url, headers={"authorization": f"Bearer {sandbox.api_key}"}) as http,
    ):
        task = create(http)
        over(sandbox)
        [link] = ask(http, task)["results"]
        assert link.startswith("http://localhost:")
        assert image_of(httpx.get(link)).size == (1024, 1024)


def test_stuck_until_let_go(sandbox: Sandbox, http: httpx.Client) -> None:
    """Stuck work stays processing and is not charged, until the control plane lets it be over."""
    sandbox.fault("stuck")
    task = create(http)
    until(lambda: ask(http, task)["status"] == "processing")
    assert (sandbox.tasks()[0]["state"], sandbox.bill()["lines"]) == ("running", [])
    sandbox.finish(sandbox.tasks()[0])
    assert ask(http, task)["status"] == "completed"
    assert len(sandbox.bill()["lines"]) == 1


def test_slow_work(sandbox: Sandbox, http: httpx.Client) -> None:
    """Slow work is still under way when it would have been done."""
    sandbox.fault("slow_work", seconds=600)
    task = create(http)
    create(http)
    over(sandbox)
    assert ask(http, task)["status"] in {"pending", "processing"}


@pytest.mark.parametrize("billed", [False, True])
@pytest.mark.parametrize("code", ["content_policy_violation", "quota_exceeded", "never_heard_of"])
def test_a_task_fails_with_any_code(sandbox: Sandbox, http: httpx.Client, code: str, billed: bool) -> None:
    """Failed work says the code and message asked for, and is charged only if the fault says so."""
    sandbox.fault("task_error", code=code, message="no", billed=billed)
    task = create(http)
    over(sandbox)
    failed = ask(http, task)
    assert (failed["status"], failed["error"]) == ("failed", {"code": code, "message": "no"})
    assert "results" not in failed
    assert len(sandbox.bill()["lines"]) == int(billed)


@pytest.mark.parametrize("fault", ["lost_response", "timeout"])
def test_a_lost_answer_to_create(sandbox: Sandbox, http: httpx.Client, fault: str) -> None:
    """Nobody learns the task's id, but it is done and charged, and its client called back."""
    sandbox.fault(fault)
    with pytest.raises(httpx.TransportError):
        http.post("/images/generations", json=MAIN, timeout=0.5)
    over(sandbox)
    assert len(sandbox.bill()["lines"]) == 1


def test_a_reset_before_anything_began(sandbox: Sandbox, http: httpx.Client) -> None:
    """An unbilled reset, a refusal and a page of some proxy begin nothing."""
    sandbox.fault("reset", billed=False)
    for name in ("connection_closed", "html", "status"):
        sandbox.fault(name)
    for _ in range(4):
        with contextlib.suppress(httpx.TransportError):
            http.post("/images/generations", json=MAIN)
    assert (sandbox.tasks(), len(sandbox.requests())) == ([], 4)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_expired_link(sandbox: Sandbox, http: httpx.Client, status: int) -> None:
    """A link is dead from the start, with the status asked for."""
    sandbox.fault("expired_link", status=status)
    task = create(http)
    over(sandbox)
    assert httpx.get(ask(http, task)["results"][0]).status_code == status


def test_fewer_results_are_charged_as_made(sandbox: Sandbox, http: httpx.Client) -> None:
    """Where fewer pictures were made, fewer are charged; none are a success without results."""
    sandbox.fault("fewer_results")
    sandbox.fault("fewer_results", images=0)
    task, none = create(http, n=3), create(http, n=3)
    over(sandbox, 0)
    over(sandbox, 1)
    assert len(ask(http, task)["results"]) == 2
    assert ask(http, none)["results"] == []
    assert only_line(sandbox)["images"] == 2


def test_wrong_count_is_charged_as_asked(sandbox: Sandbox, http: httpx.Client) -> None:
    """The older fault leaves links out of an answer that is charged in full."""
    sandbox.fault("wrong_count")
    task = create(http, n=3)
    over(sandbox)
    assert (len(ask(http, task)["results"]), only_line(sandbox)["images"]) == (2, 3)


def test_wrong_format(sandbox: Sandbox, http: httpx.Client) -> None:
    """A link that ends in png leads to a JPEG."""
    sandbox.fault("wrong_format")
    task = create(http)
    over(sandbox)
    [link] = ask(http, task)["results"]
    answer = httpx.get(link)
    assert link.endswith(".png")
    assert (image_of(answer).format, answer.headers["content-type"]) == ("JPEG", "image/jpeg")


def test_an_error_code_that_is_a_number(sandbox: Sandbox, http: httpx.Client) -> None:
    """A refusal can have its status as code, with the business word as type."""
    sandbox.fault("int_error_code", status=402, type="insufficient_quota", message="Insufficient balance")
    answer = http.post("/images/generations", json=MAIN)
    assert answer.status_code == 402
    assert answer.json()["error"] == {"code": 402, "message": "Insufficient balance", "type": "insufficient_quota"}


@pytest.mark.parametrize(("status", "code"), [(402, "insufficient_quota"), (503, "service_unavailable")])
def test_refused_on_create(sandbox: Sandbox, http: httpx.Client, status: int, code: str) -> None:
    """A status comes in EvoLink's envelope with its usual word."""
    sandbox.fault("status", status=status)
    answer = http.post("/images/generations", json=MAIN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_rate_limited(sandbox: Sandbox, http: httpx.Client) -> None:
    """A 429 names the wait, or does not."""
    sandbox.fault("rate_limit", retry_after=3)
    sandbox.fault("rate_limit", retry_after=None)
    first, second = (http.post("/images/generations", json=MAIN) for _ in range(2))
    assert (first.status_code, second.status_code) == (429, 429)
    assert (first.headers["retry-after"], "retry-after" in second.headers) == ("3", False)
    assert first.json()["error"]["code"] == "rate_limited"


def test_poll_errors_and_unknown_words(sandbox: Sandbox, http: httpx.Client) -> None:
    """Asking fails, or answers a word that nobody knows, so many times, and then goes well."""
    sandbox.fault("poll_error", polls=2, status=404)
    sandbox.fault("unknown_status", word="archiving")
    broken, odd = create(http), create(http)
    assert [http.get(f"/tasks/{broken['id']}").status_code for _ in range(3)] == [404, 404, 200]
    assert ask(http, odd)["status"] == "archiving"
    over(sandbox)
    assert ask(http, odd)["status"] == "completed"


def test_moderation(sandbox: Sandbox, http: httpx.Client) -> None:
    """A prompt is refused at once; a picture that is blocked fails its task, charged if the fault says so."""
    refused = http.post("/images/generations", json={**MAIN, "prompt": "blocked-by-moderation"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "content_policy_violation")
    sandbox.fault("moderation", stage="output", billed=True)
    task = create(http)
    over(sandbox)
    assert ask(http, task)["error"]["code"] == "content_policy_violation"
    assert len(sandbox.bill()["lines"]) == 1


def test_usage_faults(sandbox: Sandbox, http: httpx.Client) -> None:
    """The credits can be missing, none, or nonsense; the bill is not."""
    sandbox.fault("no_usage")
    sandbox.fault("zero_usage")
    sandbox.fault("garbage_usage", usage="much")
    tasks = [create(http) for _ in range(3)]
    assert "usage" not in tasks[0]
    assert tasks[1]["usage"]["credits_reserved"] == 0
    assert tasks[2]["usage"] == "much"
    for number in range(3):
        over(sandbox, number)
    assert len(sandbox.bill()["lines"]) == 3


def test_a_call_back_before_the_answer(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """The task is over and its client called before create is answered, as pending all the same."""
    sandbox.fault("callback_early")
    task = create(http, callback_url=listener.url)
    [call] = listener.calls
    assert json.loads(call.body)["status"] == "completed"
    assert task["status"] == "pending"
    assert ask(http, task)["status"] == "completed"


def test_calls_back_late_twice_and_never(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """A call comes after a while, comes again, or does not come."""
    sandbox.fault("callback_missing")
    sandbox.fault("callback_twice")
    sandbox.fault("callback_late", seconds=600)
    missing, twice, late = (create(http, callback_url=f"{listener.url}/{name}") for name in ("m", "t", "l"))
    for number in range(3):
        over(sandbox, number)
    assert [call.path for call in listener.wait_for(2)] == ["/t", "/t"]
    assert listener.calls[0].body == listener.calls[1].body
    assert [len(task["calls"]) for task in sandbox.tasks()] == [0, 2, 0]
    assert len({missing["id"], twice["id"], late["id"]}) == 3


def test_a_forged_call_back(sandbox: Sandbox, http: httpx.Client, listener: Listener) -> None:
    """Somebody claims that the task is done, with a link that leads nowhere, while it is not."""
    sandbox.fault("callback_forged")
    sandbox.fault("stuck")
    task = create(http, callback_url=listener.url)
    [call] = listener.wait_for(1)
    claim = json.loads(call.body)
    assert (claim["id"], claim["status"]) == (task["id"], "completed")
    assert httpx.get(claim["results"][0]).status_code == 404
    assert ask(http, task)["status"] != "completed"
    assert [entry["forged"] for entry in sandbox.tasks()[0]["calls"]] == [True]


def test_reset_forgets_work(sandbox: Sandbox, http: httpx.Client) -> None:
    """After a reset there is no work, and nothing of it is charged any more."""
    sandbox.fault("stuck", times=None)
    task = create(http)
    sandbox.reset()
    assert sandbox.tasks() == []
    assert http.get(f"/tasks/{task['id']}").status_code == 404
