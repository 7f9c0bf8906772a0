"""Providers that take work on: submitting, following, fetching, and what each fault means for money."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from fractions import Fraction

import pytest

from gateway.domain.profile import Amount, Profile
from gateway.domain.settlement import Outcome
from gateway.domain.task_profile import UrlPurpose
from gateway.ports.provider import Answer, Call, Cancellable, Provider, ProviderServices, Submitted, UpstreamFailure
from gateway.providers.registry import open_provider
from gateway.providers.task_images import MOST
from gateway.providers.task_wire import MAX_DOCUMENT
from tests.providers.calls import SECRET, MemoryBody, read_all
from tests.providers.raw_server import Connection
from tests.providers.task_vendor import (
    PROFILE,
    Kept,
    done,
    failed,
    png,
    said,
    task_call,
    task_config,
    vendor_of,
)
from tests.providers.test_image_inspection import Taken
from tests.providers.test_picture import file_of


@asynccontextmanager
async def answered(provider: Provider, call: Call | None = None) -> AsyncIterator[tuple[Answer, dict[str, object]]]:
    """The answer to a call, and its document."""
    answer = await provider.send(call or task_call())
    try:
        body = await read_all(answer)
        assert answer.content_length == len(body)
        yield answer, json.loads(body)
    finally:
        await answer.aclose()


async def failure_of(provider: Provider, call: Call | None = None) -> UpstreamFailure:
    """The failure of a call, at once or in its body."""
    with pytest.raises(UpstreamFailure) as caught:
        async with answered(provider, call):
            pass
    return caught.value


def images_of(document: dict[str, object]) -> list[bytes]:
    """The images of an answer."""
    data = document["data"]
    assert isinstance(data, list)
    return [base64.b64decode(item["b64_json"]) for item in data]


async def test_work_is_submitted_followed_and_answered_as_images() -> None:
    """A call submits once, waits through the states, and answers with the image's own bytes in OpenAI's shape."""
    async with vendor_of() as (vendor, provider):
        content = png(640, 480, padding=400_000)
        link = vendor.image("a.png", content)
        vendor.task({"status": "pending"}, {"status": "processing"}, done(link))
        async with answered(provider) as (answer, document):
            assert images_of(document) == [content]
            assert (document["output_format"], document["size"]) == ("png", "640x480")
            assert answer.upstream_request_id == "t1"
            reading, headers = answer.reading(), answer.headers
        assert answer.headers == headers
        assert (reading.images, reading.size, reading.complete) == (1, "640x480", True)
        assert len(vendor.created) == 1
        assert json.loads(vendor.created[0].body) == {"prompt": "a cat"}


async def test_the_secret_goes_to_the_provider_and_never_to_a_link() -> None:
    """Creating and looking carry the credentials; fetching the image does not, though it is the same host."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done(vendor.image("a.png")))
        async with answered(provider):
            pass
        told = {request.line.split(" ")[1]: request.header("authorization") for request in vendor.server.requests}
        assert told == {"/v1/create/m1": f"Bearer {SECRET}", "/v1/tasks/t1": f"Bearer {SECRET}", "/files/a.png": None}


@pytest.mark.parametrize(
    "results",
    [
        pytest.param(lambda link: {"results": [link]}, id="strings"),
        pytest.param(lambda link: {"results": [{"url": link, "width": 1}]}, id="objects"),
        pytest.param(lambda link: {"results": [], "output": link}, id="single"),
        pytest.param(lambda link: {"output": [link]}, id="list where one was thought of"),
    ],
)
async def test_results_are_found_in_each_shape(results: object) -> None:
    """Links are found as strings, in objects, alone or in a list."""
    async with vendor_of() as (vendor, provider):
        link = vendor.image("a.png")
        vendor.task({"status": "completed", **results(link)})  # type: ignore[operator]  # one of the above
        async with answered(provider) as (_, document):
            assert len(images_of(document)) == 1


async def test_fewer_images_than_asked_for_are_said() -> None:
    """Two images of three make an answer that says that one is missing, and are counted as two."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done(vendor.image("a.png"), vendor.image("b.png")))
        async with answered(provider, task_call(n=3)) as (answer, document):
            assert len(images_of(document)) == 2
            assert ("X-Gateway-Missing-Images", "1") in answer.headers
            assert answer.reading().images == 2


async def test_an_image_that_is_missing_is_none_that_was_not_kept() -> None:
    """It was made and is billed, but no client has it."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done(vendor.image("a.png"), f"{vendor.server.url}/files/gone.png"))
        taken = Taken()
        async with answered(provider, replace(task_call(n=2), archive=taken)) as (answer, document):
            assert (len(images_of(document)), answer.reading().images) == (1, 2)
        await asyncio.gather(*taken.work)
        assert (len(taken.images), taken.reasons) == (1, [])


async def test_so_many_images_as_nobody_can_ask_for_are_not_all_fetched() -> None:
    """They would take every connection of the gateway; what the work cost goes by all that are named."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done(*[vendor.image(f"{number}.png") for number in range(300)]))
        async with answered(provider) as (answer, document):
            assert len(images_of(document)) == MOST
            assert answer.reading().images == 300
        assert sum(request.line.startswith("GET /files/") for request in vendor.server.requests) == MOST


async def test_the_format_is_told_by_the_bytes() -> None:
    """JPEG bytes behind a link that ends in .png are told as a JPEG, with the size that stands in them."""
    jpeg = bytes.fromhex("ffd8ffe000104a46494600010100000100010000ffc0000b080258032001011100ffd9")
    async with vendor_of() as (vendor, provider):
        vendor.task(done(vendor.image("a.png", jpeg)))
        async with answered(provider) as (_, document):
            assert (document["output_format"], document["size"]) == ("jpeg", "800x600")


@pytest.mark.parametrize(
    ("document", "outcome", "reason", "status"),
    [
        (failed("content_policy"), Outcome.REJECTED, "status_4xx", 400),
        (failed(None, status="moderated"), Outcome.REJECTED, "status_4xx", 400),
        (failed("bad_size"), Outcome.REJECTED, "status_4xx", 400),
        (failed("no_model"), Outcome.REJECTED, "task_failed", None),
        (failed("never_heard_of"), Outcome.REJECTED, "status_5xx", None),
        (failed(503), Outcome.REJECTED, "status_5xx", None),
        (failed(None, status="cancelled"), Outcome.REJECTED, "cancelled", None),
        (failed("who_knows"), Outcome.UNKNOWN, "task_failed", None),
        ({**failed("content_policy"), "status": "completed"}, Outcome.REJECTED, "status_4xx", 400),
    ],
)
async def test_failed_work_is_judged_by_its_code(
    document: object, outcome: Outcome, reason: str, status: int | None
) -> None:
    """Each kind of failure means what the profile says, whatever type its code has, and under whichever state."""
    async with vendor_of() as (vendor, provider):
        vendor.task(document)
        failure = await failure_of(provider)
        assert (failure.outcome, failure.reason, failure.status) == (outcome, reason, status)
        assert failure.pass_on is (status == 400)


async def test_a_moderation_is_told_as_clients_know_it() -> None:
    """The caller sees OpenAI's moderation error with the provider's words, links and secrets left out."""
    async with vendor_of() as (vendor, provider):
        vendor.task(failed("content_policy", f"No cats, see https://acme.example/policy?key={SECRET} ({SECRET})"))
        failure = await failure_of(provider)
        error = json.loads(failure.body)["error"]
        assert (error["code"], error["type"]) == ("moderation_blocked", "image_generation_user_error")
        assert error["message"] == "No cats, see (link) (***)"
        assert failure.charged_for == "moderated"


@pytest.mark.parametrize("at_once", [False, True], ids=["work", "submission"])
async def test_half_a_character_in_an_errors_words_is_no_matter(at_once: bool) -> None:
    """A text that was cut within an emoji is written so by JavaScript; it means what it means without it."""
    document = failed("content_policy", "No cats \ud83d")
    async with vendor_of() as (vendor, provider):
        if at_once:
            vendor.says("POST /v1/create/m1", said(document, status="400 Bad Request"))
        vendor.task(document)
        failure = await failure_of(provider)
    assert (failure.outcome, failure.status, failure.charged_for) == (Outcome.REJECTED, 400, "moderated")
    error = json.loads(failure.body)["error"]
    assert (error["code"], error["message"]) == ("moderation_blocked", "No cats ?")


@pytest.mark.parametrize(
    ("status", "body", "outcome", "reason"),
    [
        ("400 Bad Request", failed("content_policy"), Outcome.REJECTED, "status_4xx"),
        ("400 Bad Request", failed(400), Outcome.REJECTED, "status_4xx"),
        ("401 Unauthorized", failed("invalid_key"), Outcome.REJECTED, "account"),
        ("402 Payment Required", failed("no_credits"), Outcome.REJECTED, "account_quota"),
        ("429 Too Many Requests", failed("slow_down"), Outcome.REJECTED, "status_429"),
        ("503 Service Unavailable", failed("busy"), Outcome.REJECTED, "status_5xx"),
        ("504 Gateway Timeout", {}, Outcome.UNKNOWN, "timeout"),
        ("200 OK", {"error": {"code": "odd"}}, Outcome.UNKNOWN, "garbage"),
        ("200 OK", [1], Outcome.UNKNOWN, "garbage"),
    ],
)
async def test_refused_submissions_are_judged_as_any_call_is(
    status: str, body: object, outcome: Outcome, reason: str
) -> None:
    """Work that was not taken on was not billed, unless a proxy lost the answer or it does not say what it took on."""
    async with vendor_of() as (vendor, provider):
        vendor.says("POST /v1/create/m1", said(body, status=status))
        failure = await failure_of(provider)
        assert (failure.outcome, failure.reason) == (outcome, reason)
        assert len(vendor.server.requests) == 1


async def test_a_moderated_submission_is_told_as_a_moderation() -> None:
    """A 400 whose code the profile calls a moderation is one for the caller too."""
    async with vendor_of() as (vendor, provider):
        vendor.says("POST /v1/create/m1", said(failed("content_policy"), status="400 Bad Request"))
        failure = await failure_of(provider)
        assert json.loads(failure.body)["error"]["code"] == "moderation_blocked"


async def test_what_comes_compressed_is_read() -> None:
    """Nobody asked for it; to throw it away would be to lose sight of work that is paid for."""
    packed = "Content-Encoding: gzip\r\n"
    async with vendor_of() as (vendor, provider):
        taken_on = gzip.compress(b'{"id": "t1", "status": "pending"}')
        vendor.says("POST /v1/create/m1", ("200 OK", taken_on, packed))
        ended = gzip.compress(json.dumps(done(vendor.image("a.png"))).encode())
        vendor.says("GET /v1/tasks/t1", ("200 OK", ended, packed))
        async with answered(provider) as (_, document):
            assert len(images_of(document)) == 1


async def test_a_lost_answer_is_never_repeated() -> None:
    """Where the answer to a submission is lost the outcome is unknown, and nothing is submitted again."""
    async with vendor_of() as (vendor, provider):
        vendor.lose = True
        failure = await failure_of(provider)
        assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "reset")
        assert len(vendor.created) == 1


async def test_what_was_submitted_is_noted_and_followed_by_whoever_comes_after() -> None:
    """The note of one process is enough for another to bring the answer, without a second submission."""
    async with vendor_of() as (vendor, provider):
        vendor.task({"status": "processing", "progress": 40}, done(vendor.image("a.png"), progress=100))
        first = Kept()
        async with answered(provider, task_call(submissions=first)):
            pass
        assert first.noted[0].id == "t1"
        assert first.progress == [40, 100]
        async with answered(provider, task_call(submissions=Kept(known=first.noted))) as (_, document):
            assert len(images_of(document)) == 1
        assert len(vendor.created) == 1


async def test_a_call_that_was_never_noted_may_have_been_sent() -> None:
    """Of what an earlier process did not note nobody knows anything, and it is not sent again."""
    async with vendor_of() as (vendor, provider):
        failure = await failure_of(provider, task_call(submissions=Kept(known={})))
        assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "lost")
        assert vendor.server.requests == []


async def test_looks_that_fail_do_not_end_the_work() -> None:
    """500s, garbage, a 404 or two, and a state nobody knows pass; the state is told of once."""
    async with vendor_of() as (vendor, provider):
        ready = said(done(vendor.image("a.png")))
        vendor.says(
            "GET /v1/tasks/t1",
            said({}, status="500 Internal Server Error"),
            ("200 OK", b"<html>", ""),
            said({}, status="404 Not Found"),
            said({}, status="404 Not Found"),
            said({"status": "simmering"}),
            said({"status": "simmering"}),
            said({}, status="401 Unauthorized"),
            ready,
        )
        async with answered(provider) as (_, document):
            assert len(images_of(document)) == 1


async def test_an_unknown_state_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A word that the profile does not know is named in the log, one time."""
    async with vendor_of() as (vendor, provider):
        strange = {"status": "simmering"}
        vendor.task(strange, strange, strange, done(vendor.image("a.png")))
        with caplog.at_level(logging.WARNING):
            async with answered(provider):
                pass
        assert sum("simmering" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("reply", [said({}, status="404 Not Found"), said({"status": "gone"})])
async def test_work_that_the_provider_has_lost_is_given_up_after_several_looks(reply: tuple[str, bytes, str]) -> None:
    """Work that existed a moment ago and is not found several times in a row has an unknown outcome."""
    async with vendor_of() as (vendor, provider):
        vendor.says("GET /v1/tasks/t1", said({"status": "processing"}), reply)
        failure = await failure_of(provider)
        assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "lost")
        assert vendor.times("GET /v1/tasks/t1") == 6


async def test_what_is_said_of_other_work_is_not_believed(caplog: pytest.LogCaptureFixture) -> None:
    """An answer about somebody else's work neither ends this one nor brings its images."""
    async with vendor_of() as (vendor, provider):
        other = done(vendor.image("b.png", png(512, 512)), id="t2")
        vendor.task(other, {**failed("content_policy"), "id": "t2"}, done(vendor.image("a.png", png(1024, 768))))
        async with answered(provider) as (_, document):
            assert images_of(document) == [png(1024, 768)]
    assert "t2" in caplog.text


async def test_patience_ends() -> None:
    """Work that never ends has an unknown outcome once patience is out."""
    async with vendor_of(replace(PROFILE, patience=0.2)) as (vendor, provider):
        vendor.task({"status": "processing"})
        failure = await failure_of(provider)
        assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "timeout")


async def test_a_dead_link_is_replaced_by_a_fresh_one() -> None:
    """A link that has expired makes the gateway read the work once more, and fetch by what it says then."""
    async with vendor_of() as (vendor, provider):
        old = vendor.image("old.png", b"{}", status="403 Forbidden")
        vendor.task(done(old), done(vendor.image("new.png")))
        async with answered(provider) as (_, document):
            assert len(images_of(document)) == 1


@pytest.mark.parametrize("status", ["403 Forbidden", "404 Not Found", "410 Gone"])
async def test_an_image_that_is_lost_leaves_its_cost_known(status: str) -> None:
    """Where no link works the answer breaks, and its reading still says what was made and what it cost."""
    profile = replace(PROFILE, reported=Amount(path="cost", usd=Fraction(1, 68)))
    async with vendor_of(profile) as (vendor, provider):
        vendor.task(done(vendor.image("a.png", b"{}", status=status), cost=2.5))
        answer = await provider.send(task_call())
        with pytest.raises(UpstreamFailure) as caught:
            await read_all(answer)
        assert (caught.value.outcome, caught.value.reason) == (Outcome.UNKNOWN, "lost_image")
        reading = answer.reading()
        assert (reading.reported, reading.images, reading.complete) == (36_764_706, 1, True)
        await answer.aclose()


async def test_what_the_link_leads_to_must_be_an_image() -> None:
    """A page in place of an image is no image, whatever its status says."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done(vendor.image("a.png", b"<html>Sign in</html>")))
        assert (await failure_of(provider)).reason == "unfetchable"


async def test_half_an_image_is_fetched_again() -> None:
    """Where no length was told, only the image itself says whether it is whole."""
    whole = file_of("PNG")
    come = [whole[: len(whole) // 2], whole]

    async def script(connection: Connection) -> None:
        request = await connection.request()
        if request.line.startswith("GET /files"):
            await connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n" + come.pop(0))
        elif request.line.startswith("POST"):
            await connection.answer(b'{"id": "t1", "status": "pending"}')
        else:
            await connection.answer(json.dumps(done(f"{vendor.server.url}/files/a.png")).encode())

    async with vendor_of() as (vendor, provider):
        vendor.told = script
        async with answered(provider) as (_, document):
            assert images_of(document) == [whole]
    assert not come


async def test_an_image_in_the_document_itself_is_taken_out_of_it() -> None:
    """A data URI is an image like one that a link leads to, and a link beside it is followed as ever."""
    async with vendor_of() as (vendor, provider):
        content, other = png(64, 64, padding=3_000_000), png(32, 32)
        inline = "data:image/png;base64," + base64.b64encode(content).decode()
        vendor.task(done(inline, vendor.image("a.png", other)))
        async with answered(provider, task_call(n=2)) as (answer, document):
            assert images_of(document) == [content, other]
            assert answer.reading().images == 2


@pytest.mark.parametrize(
    "uri",
    [
        "data:image/png;base64," + base64.b64encode(b"no image at all").decode(),
        "data:image/png;base64,no base64 !",
        "data:image/svg+xml,%3Csvg/%3E",
        "data:image/png;base64,",
    ],
)
async def test_a_data_uri_that_holds_no_image_leaves_its_cost_known(uri: str) -> None:
    """What is no picture, or no base64, is an answer that broke; the work was done, and that is what is booked."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done(uri))
        failure = await failure_of(provider)
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "unfetchable")


async def test_a_document_that_is_too_long_is_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    """It is read up to a bound; the next look would find it as long, so that this is the end, and is said."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done("data:image/png;base64," + "A" * MAX_DOCUMENT))
        failure = await failure_of(provider)
        assert vendor.times("GET /v1/tasks/t1") == 1
    assert (failure.outcome, failure.reason) == (Outcome.UNKNOWN, "too_large")
    assert "too long" in failure.message
    assert ["t1" in record.getMessage() for record in caplog.records] == [True]


async def test_a_document_that_repeats_a_long_request_is_read() -> None:
    """As long again as what was sent, once it is done and as it begins: it is paid for, and here."""
    async with vendor_of() as (vendor, provider):
        prompt = "x" * (MAX_DOCUMENT + 1000)
        vendor.says("POST /v1/create/m1", said({"input": {"prompt": prompt}, "id": "t1", "status": "pending"}))
        vendor.task({"input": {"prompt": prompt}, **done(vendor.image("a.png"))})
        call = task_call(body=MemoryBody({"prompt": prompt, "model": "m"}))
        async with answered(provider, call) as (_, document):
            assert len(images_of(document)) == 1


async def test_a_link_inside_is_not_followed() -> None:
    """A link to an address that nobody configured is refused, and the failure does not name it."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done("http://169.254.169.254/latest/meta-data"))
        failure = await failure_of(provider)
        assert failure.reason == "unfetchable"
        assert "169" not in failure.message


async def test_cost_is_read_at_submission_in_the_document_and_in_headers() -> None:
    """Cents told at once, units in a header of the result, seconds and usage in the document are all read exactly."""
    usage = {"input_tokens": 5, "output_tokens": 196, "total_tokens": 201}
    profile = replace(
        PROFILE,
        submitted_cost=Amount(path="cost", usd=Fraction(1, 100)),
        reported=Amount(header="X-Units"),
        seconds="metrics.time",
        usage="usage",
    )
    async with vendor_of(profile) as (vendor, provider):
        vendor.says("POST /v1/create/m1", said({"id": "t1", "cost": 3.1}))
        document = done(vendor.image("a.png"), metrics={"time": 2.9}, usage=usage)
        vendor.says("GET /v1/tasks/t1", said(document, headers="X-Units: 0.75\r\n"))
        async with answered(provider) as (answer, told):
            reading = answer.reading()
            assert told["usage"] == usage
        assert (reading.reported, reading.units, reading.seconds) == (31_000_000, Fraction(3, 4), Fraction(29, 10))
        assert reading.usage is not None


async def test_the_bill_counts_and_not_what_was_announced() -> None:
    """Both are told: the last document's amount is what is paid, and its time is kept though it says no beginning."""
    cent = Fraction(1, 100)
    profile = replace(
        PROFILE,
        submitted_cost=Amount(path="cost", usd=cent),
        reported=Amount(path="charged", usd=cent),
        seconds="metrics.time",
        started="started_at",
    )
    async with vendor_of(profile) as (vendor, provider):
        vendor.says("POST /v1/create/m1", said({"id": "t1", "cost": 3.1}))
        for charged, announced in ((2.5, False), (None, True)):
            document = done(vendor.image("a.png"), metrics={"time": 2.9}, started_at=None, charged=charged)
            vendor.says("GET /v1/tasks/t1", said(document))
            async with answered(provider) as (answer, _):
                reading = answer.reading()
            assert (reading.reported, reading.announced) == (31_000_000 if announced else 25_000_000, announced)
            assert reading.seconds == Fraction(29, 10)


async def test_told_urls_are_used_on_hosts_of_the_provider_alone() -> None:
    """A told URL is followed on the own origin and on sister hosts; one that leads elsewhere never sees the secret."""
    async with vendor_of() as (elsewhere, _):
        profile = replace(PROFILE, told={UrlPurpose.STATUS: "status_url"})
        async with vendor_of(profile) as (vendor, provider):
            link = vendor.image("a.png")
            vendor.says("GET /odd/place", said(done(link)))
            vendor.says("POST /v1/create/m1", said({"id": "t1", "status_url": f"{vendor.server.url}/odd/place"}))
            async with answered(provider):
                pass
            vendor.says("POST /v1/create/m1", said({"id": "t1", "status_url": f"{elsewhere.server.url}/odd/place"}))
            vendor.task(done(link))
            async with answered(provider):
                pass
        assert elsewhere.server.requests == []
        sisters = (f"127.0.0.1:{elsewhere.server.port}",)
        async with vendor_of(replace(profile, sister_hosts=sisters)) as (vendor, provider):
            elsewhere.says("GET /odd/place", said(done(vendor.image("a.png"))))
            vendor.says("POST /v1/create/m1", said({"id": "t1", "status_url": f"{elsewhere.server.url}/odd/place"}))
            async with answered(provider):
                pass
        assert elsewhere.server.requests[0].header("authorization") == f"Bearer {SECRET}"


@pytest.mark.parametrize("host", ["xn--i-7iq.ws", "xn--a", "\u2603.example", "a b"])
async def test_a_told_url_of_no_readable_host_is_not_followed(host: str) -> None:
    """The profile's own is, and the work is not lost."""
    async with vendor_of(replace(PROFILE, told={UrlPurpose.STATUS: "status_url"})) as (vendor, provider):
        vendor.says("POST /v1/create/m1", said({"id": "t1", "status_url": f"http://{host}/odd/place"}))
        vendor.task(done(vendor.image("a.png")))
        async with answered(provider) as (_, document):
            assert len(images_of(document)) == 1


async def test_a_separate_result_is_read_and_its_refusal_is_the_works() -> None:
    """Where the result has a URL of its own it is read there, tried again after a 500, and believed when it refuses."""
    profile = replace(PROFILE, urls={**PROFILE.urls, UrlPurpose.RESULT: "/tasks/{id}/result"})
    async with vendor_of(profile) as (vendor, provider):
        vendor.task({"status": "completed"})
        ready = said(done(vendor.image("a.png")))
        vendor.says("GET /v1/tasks/t1/result", said({}, status="500 Internal Server Error"), ready)
        async with answered(provider):
            pass
        vendor.says("GET /v1/tasks/t1/result", said(failed("bad_size"), status="422 Unprocessable Entity"))
        failure = await failure_of(provider)
        assert (failure.outcome, failure.charged_for, failure.status) == (Outcome.REJECTED, "invalid", 400)


@pytest.mark.parametrize("status", ["400 Bad Request", "409 Conflict", "413 Content Too Large", "451 Unavailable"])
async def test_a_page_in_place_of_a_result_says_nothing_of_the_work(status: str) -> None:
    """It is of what lies between; the work is done, and read the next time."""
    profile = replace(PROFILE, urls={**PROFILE.urls, UrlPurpose.RESULT: "/tasks/{id}/result"})
    async with vendor_of(profile) as (vendor, provider):
        vendor.task({"status": "completed"})
        page = (status, b"<html><h1>Bad Request</h1></html>", "Content-Type: text/html\r\n")
        vendor.says("GET /v1/tasks/t1/result", page, said(done(vendor.image("a.png"))))
        async with answered(provider) as (_, document):
            assert len(images_of(document)) == 1


async def test_work_that_failed_tells_its_charge_where_its_result_would_be() -> None:
    """The headers there say what a failure costs; where they cannot be read nothing is known of it."""
    profile = replace(
        PROFILE, urls={**PROFILE.urls, UrlPurpose.RESULT: "/tasks/{id}/result"}, reported=Amount(header="x-units")
    )
    async with vendor_of(profile) as (vendor, provider):
        vendor.task({**failed("bad_size"), "status": "completed"})
        vendor.says("GET /v1/tasks/t1/result", said({}, status="422 Unprocessable Entity", headers="X-Units: 7\r\n"))
        reading = (await failure_of(provider)).reading
        assert (reading and reading.units) == 7
        vendor.says("GET /v1/tasks/t1/result", said({}, status="500 Internal Server Error"))
        failure = await failure_of(provider)
        assert (failure.charged_for, failure.reading and failure.reading.units) == ("invalid", None)


async def test_a_cost_of_work_that_failed_is_known_as_announced() -> None:
    """What was told at submission is so, whatever came of the work."""
    profile = replace(PROFILE, submitted_cost=Amount(path="cost", usd=Fraction(1, 100)))
    async with vendor_of(profile) as (vendor, provider):
        vendor.says("POST /v1/create/m1", said({"id": "t1", "cost": 3.1}))
        vendor.says("GET /v1/tasks/t1", said(failed(None, status="moderated")))
        failure = await failure_of(provider)
        assert failure.charged_for == "moderated"
        assert failure.reading is not None
        assert (failure.reading.reported, failure.reading.announced) == (31_000_000, True)


async def test_a_refused_submission_is_told_in_shape() -> None:
    """A code that is a number, and words in another place, are what clients of this API read."""
    async with vendor_of() as (vendor, provider):
        refusals = (
            ({"error": {"code": 1001, "message": "no"}}, {"message": "no", "param": None, "code": "1001"}),
            (
                {"detail": [{"loc": ["body", "width"], "msg": "no", "type": "x"}]},
                {"message": "width: no", "param": "width"},
            ),
        )
        for document, told in refusals:
            vendor.says("POST /v1/create/m1", said(document, status="422 Unprocessable Entity"))
            failure = await failure_of(provider)
            assert (failure.status, failure.pass_on, failure.charged_for) == (422, True, "invalid")
            error = json.loads(failure.body)["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error.items() >= told.items()


async def test_cancelling_asks_the_provider() -> None:
    """Cancelling says whether the provider agreed; without a way to ask it says no, and it raises nothing."""
    route, submitted = task_call().route, Submitted("t1")
    async with vendor_of() as (vendor, provider):
        assert isinstance(provider, Cancellable)
        vendor.says("POST /v1/tasks/t1/cancel", said({}))
        assert await provider.cancel(route, submitted)
        vendor.says("POST /v1/tasks/t1/cancel", said({}, status="409 Conflict"))
        assert not await provider.cancel(route, submitted)
    async with vendor_of(replace(PROFILE, urls={UrlPurpose.STATUS: "/tasks/{id}"})) as (vendor, provider):
        assert isinstance(provider, Cancellable)
        assert not await provider.cancel(route, submitted)
        assert vendor.server.requests == []


async def test_a_call_that_is_left_leaves_the_work_as_it_is() -> None:
    """Who stops waiting stops the looks; nothing is asked of the provider."""
    async with vendor_of() as (vendor, provider):
        vendor.task({"status": "processing"})
        sending = asyncio.create_task(provider.send(task_call()))
        await vendor.seen("GET /v1/tasks/t1", 2)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await asyncio.sleep(0.1)
        looks = vendor.times("GET /v1/tasks/t1")
        await asyncio.sleep(0.2)
        assert vendor.times("GET /v1/tasks/t1") == looks
        assert vendor.times("POST /v1/tasks/t1/cancel") == 0


async def test_several_calls_are_several_pieces_of_work() -> None:
    """Three images of a route that makes one a call are three submissions, each noted by its number."""
    async with vendor_of() as (vendor, provider):
        vendor.task(done(vendor.image("a.png")))
        kept = Kept()
        async with answered(provider, task_call(n=3, calls=3, submissions=kept)) as (answer, document):
            assert len(images_of(document)) == 3
            assert len(answer.reading().parts) == 3
        assert sorted(kept.noted) == [0, 1, 2]


async def test_a_lost_image_of_a_call_with_links_leaves_its_cost_known() -> None:
    """What was made is known through the answer's readings too where images are to be kept as links."""

    class Nowhere:
        async def keep(self, content: AsyncIterator[bytes]) -> str:
            raise OSError(f"no room for {content}")

    async with vendor_of() as (vendor, provider):
        vendor.task(done(vendor.image("a.png", b"{}", status="410 Gone")))
        answer = await provider.send(task_call(links=Nowhere()))
        with pytest.raises(UpstreamFailure, match="expired"):
            await read_all(answer)
        assert [part.reading.complete for part in answer.reading().parts] == [True]
        await answer.aclose()


async def test_without_a_fetcher_nothing_is_sent() -> None:
    """Images that could not be fetched are not ordered."""
    provider = open_provider(task_config("http://127.0.0.1:1"), ProviderServices())
    failure = await failure_of(provider)
    assert (failure.outcome, failure.reason) == (Outcome.NOT_SENT, "unconfigured")
    await provider.aclose()


def test_a_task_provider_needs_a_profile() -> None:
    """Without a profile the kind says nothing, which the operator is told."""
    with pytest.raises(ValueError, match="needs a preset"):
        open_provider(replace(task_config("http://127.0.0.1:1"), profile=Profile()))
