"""Providers that take work on, each in front of its persona: what the client gets, and that the ledger is the bill."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

import openai
import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.accounting import Ask, billed, booked, crowd, settled
from tests.e2e.clients import picture
from tests.e2e.stack import Reply, Stack, fetch, running_gateway
from tests.e2e.task_policy import POLICY
from tests.ports import free_port

GENERATE = "/v1/images/generations"
SQUARE = "1024x1024"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway that providers can reach, so that they fetch input images from it."""
    port = free_port()
    directory = tmp_path_factory.mktemp("gateway")
    with running_gateway(directory, POLICY, sandbox, "--public-url", f"http://127.0.0.1:{port}", port=port) as running:
        yield running


def ask(stack: Stack, job_type: str, **fields: object) -> Reply:
    """Ask for an image of a job type."""
    body = {"prompt": "a cat", "size": SQUARE, **fields}
    reply = stack.post(GENERATE, body, headers={"x-gateway-job-type": job_type})
    settled(stack)
    return reply


def images(reply: Reply) -> list[bytes]:
    """The images of an answer."""
    assert reply.status == 200, reply.body
    return [base64.b64decode(item["b64_json"]) for item in reply.json["data"]]


def submissions(sandbox: Sandbox) -> int:
    """How often work was submitted."""
    return sum(request["method"] == "POST" for request in sandbox.requests())


@pytest.mark.parametrize("job_type", ["evolink", "beta", "fal", "flux", "pro", "sdxl", "bfl"])
def test_an_image_of_each_provider_costs_what_its_bill_says(stack: Stack, sandbox: Sandbox, job_type: str) -> None:
    """A synchronous client gets the image of a provider that answers later, and the ledger books the bill's figure."""
    before = booked(stack)
    reply = ask(stack, job_type)
    assert len(images(reply)) == 1
    assert submissions(sandbox) == 1
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed, spent.requests) == (billed(sandbox), 1, 0, 1)


def test_the_bytes_are_those_of_the_provider(stack: Stack, sandbox: Sandbox) -> None:
    """What the client gets is byte for byte what lies behind the provider's link."""
    (image,) = images(ask(stack, "evolink"))
    link = next(request["path"] for request in sandbox.requests() if "/delivery/" in request["path"])
    assert hashlib.sha256(fetch(sandbox.url + link).body).digest() == hashlib.sha256(image).digest()


def test_several_images_of_one_piece_of_work(stack: Stack, sandbox: Sandbox) -> None:
    """Three images are one submission where the provider makes as many, and three where it makes one a call."""
    before = booked(stack)
    assert len(images(ask(stack, "evolink", n=3))) == 3
    assert submissions(sandbox) == 1
    assert len(images(ask(stack, "bfl", n=3))) == 3
    assert submissions(sandbox) == 4
    assert (booked(stack) - before).route == billed(sandbox)


@pytest.mark.parametrize("job_type", ["evolink", "fal", "bfl"])
def test_an_uploaded_image_reaches_each_provider_in_its_own_form(stack: Stack, sandbox: Sandbox, job_type: str) -> None:
    """An upload goes on by a link of the gateway's, as a data URL or as base64, and the edit is paid to the cent."""
    before = booked(stack)
    with openai.OpenAI(base_url=stack.url, api_key=stack.key(), max_retries=0) as client:
        answer = client.images.edit(
            image=("cat.png", picture(), "image/png"),
            prompt="a hat",
            size=SQUARE,
            extra_headers={"x-gateway-job-type": job_type},
        )
    settled(stack)
    assert answer.data is not None
    assert len(answer.data) == 1
    (task,) = sandbox.tasks()
    assert task["operation"] == "edit"
    assert (booked(stack) - before).route == billed(sandbox)


@pytest.mark.parametrize("job_type", ["evolink", "fal"])
def test_an_image_named_by_url_is_passed_on_as_it_is(stack: Stack, sandbox: Sandbox, job_type: str) -> None:
    """A client's own link is the provider's to fetch."""
    made = ask(stack, "evolink")
    link = sandbox.url + next(request["path"] for request in sandbox.requests() if "/delivery/" in request["path"])
    assert made.status == 200
    body = {"prompt": "a hat", "size": SQUARE, "images": [{"image_url": link}]}
    reply = stack.post("/v1/images/edits", body, headers={"x-gateway-job-type": job_type})
    settled(stack)
    assert len(images(reply)) == 1
    (task,) = [task for task in sandbox.tasks() if task["operation"] == "edit"]
    assert task["provider"] == job_type


def test_a_moderation_is_shown_to_the_caller(stack: Stack, sandbox: Sandbox) -> None:
    """Refused content is OpenAI's moderation error, at submission and afterwards, and costs nothing."""
    before = booked(stack)
    every = [(job_type, stage) for job_type in ("evolink", "bfl", "pro") for stage in ("input", "output")]
    for job_type, stage in every:
        sandbox.fault("moderation", stage=stage)
        reply = ask(stack, job_type)
        assert reply.status == 400, (job_type, stage, reply.body)
        assert reply.error["code"] == "moderation_blocked"
    assert (booked(stack) - before).route == billed(sandbox) == 0


@pytest.mark.parametrize("code", ["service_error", "never_heard_of"])
def test_work_that_fails_unbilled_goes_to_another_route(stack: Stack, sandbox: Sandbox, code: str) -> None:
    """A failure that costs nothing makes the next route do it, and nothing is booked for the first."""
    before = booked(stack)
    sandbox.fault("task_error", code=code)
    reply = ask(stack, "fallback")
    assert len(images(reply)) == 1
    assert reply.headers["x-gateway-route"] == "main/gpt-image-2"
    spent = booked(stack) - before
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)


def test_an_invalid_request_is_the_callers_to_mend(stack: Stack, sandbox: Sandbox) -> None:
    """What the provider calls the caller's mistake is shown with its words, and no other route is tried."""
    sandbox.fault("task_error", code="invalid_parameters", message="The prompt is in no language.")
    reply = ask(stack, "fallback")
    assert (reply.status, reply.error["message"]) == (400, "The prompt is in no language.")


@pytest.mark.parametrize("status", [402, 429, 503])
def test_a_refused_submission_goes_to_another_route(stack: Stack, sandbox: Sandbox, status: int) -> None:
    """An account without credit, at its limit or out of order is passed over at no cost."""
    before = booked(stack)
    sandbox.fault("status", status=status, provider="evolink")
    reply = ask(stack, "fallback")
    assert reply.headers["x-gateway-route"] == "main/gpt-image-2"
    spent = booked(stack) - before
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)
    stack.forget()


def test_integer_error_codes_are_understood(stack: Stack, sandbox: Sandbox) -> None:
    """An error whose code is a number is one like any other."""
    sandbox.fault("int_error_code")
    assert ask(stack, "evolink").status == 400


def test_a_lost_answer_to_a_submission_is_presumed_and_never_repeated(stack: Stack, sandbox: Sandbox) -> None:
    """Work that may have been taken on is booked at its worst, and not submitted again anywhere."""
    before = booked(stack)
    sandbox.fault("lost_response")
    reply = ask(stack, "fallback")
    assert reply.status == 502
    assert reply.headers["x-should-retry"] == "false"
    assert submissions(sandbox) == 1
    spent = booked(stack) - before
    assert spent.unconfirmed == spent.route >= billed(sandbox)
    stack.forget()


def test_stuck_work_is_given_up_and_presumed(stack: Stack, sandbox: Sandbox) -> None:
    """Work that never ends is an error once patience is out, and booked as unconfirmed."""
    before = booked(stack)
    sandbox.fault("stuck")
    reply = ask(stack, "hasty")
    assert (reply.status, reply.headers["x-should-retry"]) == (504, "false")
    spent = booked(stack) - before
    assert spent.unconfirmed == spent.route > 0
    stack.forget()


@pytest.mark.parametrize("status", [403, 410])
def test_an_image_that_cannot_be_had_is_paid_as_billed(stack: Stack, sandbox: Sandbox, status: int) -> None:
    """Where the link is dead the client is told, and what is booked is the bill and not the worst case."""
    before = booked(stack)
    sandbox.fault("expired_link", status=status, times=None)
    reply = ask(stack, "evolink")
    assert reply.status == 502, reply.body
    assert "expired" in reply.error["message"]
    assert reply.headers["x-should-retry"] == "false"
    spent = booked(stack) - before
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)
    stack.forget()


def test_trouble_with_looking_does_not_end_the_work(stack: Stack, sandbox: Sandbox) -> None:
    """A 500, a 404 and a state that nobody knows, when asked after the work, change nothing."""
    sandbox.fault("poll_error", status=500)
    assert ask(stack, "evolink").status == 200
    sandbox.fault("poll_error", status=404)
    assert ask(stack, "evolink").status == 200
    sandbox.fault("unknown_status")
    assert ask(stack, "evolink").status == 200


def test_fewer_images_are_said_and_paid_as_billed(stack: Stack, sandbox: Sandbox) -> None:
    """Two of three images are an answer with a header that says so, at the price of two."""
    before = booked(stack)
    sandbox.fault("fewer_results", images=2)
    reply = ask(stack, "evolink", n=3)
    assert (len(images(reply)), reply.headers["x-gateway-missing-images"]) == (2, "1")
    assert (booked(stack) - before).route == billed(sandbox)


def test_another_format_is_told(stack: Stack, sandbox: Sandbox) -> None:
    """JPEG bytes where PNG was asked for are told as what they are."""
    sandbox.fault("wrong_format", format="jpeg")
    reply = ask(stack, "evolink", output_format="png")
    assert reply.json["output_format"] == "jpeg"
    assert images(reply)[0][:2] == b"\xff\xd8"


PROVIDERS = ("evolink", "fal", "replicate", "bfl")
SLOW = ("slow-evolink", "slow-fal", "slow-replicate", "slow-bfl")
"""Job types whose routes are looked at once an hour."""
QUICK = ("evolink", "fal", "pro", "bfl")


async def at_once(stack: Stack, sandbox: Sandbox, job_types: Sequence[str], *faults: str, n: int = 1) -> None:
    """Ask for an image of each job type at once, each provider with these faults; all must come at the bill's price."""
    before = booked(stack)
    for fault in faults:
        for provider in PROVIDERS:
            sandbox.fault(fault, provider=provider)
    body = {"prompt": "a cat", "size": SQUARE}
    asks = [Ask({**body, "model": f"job:{job_type}"}) for job_type in job_types] * n
    replies = await crowd(asks, [stack], at_once=len(asks))
    assert [len(images(reply)) for reply in replies] == [1] * len(asks)
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.images, spent.unconfirmed) == (billed(sandbox), len(asks), 0)


async def test_a_call_back_wakes_the_look(stack: Stack, sandbox: Sandbox) -> None:
    """Each provider's own callback, by its own signature, ends a wait that would last an hour."""
    await at_once(stack, sandbox, SLOW)


@pytest.mark.parametrize("fault", ["callback_twice", "callback_late"])
async def test_call_backs_twice_and_late_change_nothing(stack: Stack, sandbox: Sandbox, fault: str) -> None:
    """Work that is told of twice, or two seconds late, is answered and paid for once."""
    await at_once(stack, sandbox, SLOW, fault)


@pytest.mark.parametrize("fault", ["callback_early", "callback_missing", "callback_forged"])
async def test_call_backs_early_missing_and_forged_change_nothing(stack: Stack, sandbox: Sandbox, fault: str) -> None:
    """One before the answer to the submission, none at all, or one with false links: each leads to the true image."""
    await at_once(stack, sandbox, QUICK, fault)


async def test_mixed_requests_cost_what_the_bill_says(stack: Stack, sandbox: Sandbox) -> None:
    """Work of all providers at once, some of it failing unbilled, adds up to the bill."""
    before = booked(stack)
    for provider in ("evolink", "fal", "bfl"):
        sandbox.fault("task_error", provider=provider, code="service_error", times=2)
    job_types = ("evolink", "beta", "fal", "flux", "pro", "sdxl", "bfl")
    asks = [Ask({"prompt": "a cat", "size": SQUARE, "model": f"job:{job_type}"}) for job_type in job_types] * 4
    replies = await crowd(asks, [stack], at_once=len(asks))
    assert {reply.status for reply in replies} <= {200, 502}
    settled(stack)
    spent = booked(stack) - before
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)
    stack.forget()


def test_failed_work_is_paid_where_the_price_row_says_so(stack: Stack, sandbox: Sandbox) -> None:
    """A run that failed on a model sold by the second costs its seconds, as reported, each time."""
    before = booked(stack)
    sandbox.fault("task_error", provider="replicate", billed=True, times=None)
    assert ask(stack, "sdxl").status == 502
    spent = booked(stack) - before
    assert (spent.route, spent.unconfirmed) == (billed(sandbox), 0)
    assert spent.route > 0


@pytest.mark.slow
async def test_two_hundred_requests_of_each_provider_cost_what_the_bill_says(stack: Stack, sandbox: Sandbox) -> None:
    """The ledger is the bill over two hundred requests of each provider."""
    for job_type in QUICK:
        for _ in range(10):
            sandbox.reset()
            await at_once(stack, sandbox, [job_type], n=20)
