"""The routes of both planes, and what reaches the gateway through them."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import time
from collections.abc import Mapping

import httpx
import pytest

from gateway.domain.errors import NotFound
from gateway.domain.job import Operation
from gateway.web.admin import create_admin_app
from gateway.web.server import listen, serve_app
from tests.web.forms import Item, write_form
from tests.web.recording import RecordingGateway, serving

GENERATIONS = ["/v1/images/generations", "/images/generations", "/openai/v1/images/generations"]
DEPLOYMENT = "/openai/deployments/job:hero%20image/images/"


async def test_every_path_leads_to_the_gateway(port: int, gateway: RecordingGateway) -> None:
    """The three prefixes and the deployment paths give the same operations; the last name the model."""
    form = {"content-type": "multipart/form-data; boundary=b0undary"}
    content = write_form([Item("image", b"x", "a.png"), Item("prompt", b"x")])
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        for path in [*GENERATIONS, f"{DEPLOYMENT}generations?api-version=2025-04-01-preview"]:
            assert (await client.post(path, json={"prompt": "x"})).status_code == 200
        for path in [*(path.replace("generations", "edits") for path in GENERATIONS), f"{DEPLOYMENT}edits"]:
            assert (await client.post(path, content=content, headers=form)).status_code == 200
            assert (await client.post(path, json={"images": [{"file_id": "f"}]})).status_code == 200

    inbounds = [seen.inbound for seen in gateway.seen]
    assert [inbound.operation for inbound in inbounds] == [Operation.GENERATE] * 4 + [Operation.EDIT] * 8
    assert [inbound.path_model for inbound in inbounds if inbound.path_model] == ["job:hero image"] * 3


async def test_inbound_tells_what_arrived(port: int, gateway: RecordingGateway) -> None:
    """Header names are lower case, repeated ones joined; the request id is ours, whatever the client says."""
    headers = [("X-Request-Id", "mine"), ("X-Gateway-Tags", "a=1"), ("X-Gateway-Tags", "b=2"), ("API-Key", "igw_x")]
    before = time.monotonic()
    async with httpx.AsyncClient() as client:
        url = f"http://127.0.0.1:{port}/v1/images/generations"
        answer = await client.post(url, json={"prompt": "x"}, headers=headers)

    inbound = gateway.seen[0].inbound
    assert re.fullmatch(r"req_[0-9a-f]{32}", inbound.request_id)
    assert answer.headers["x-request-id"] == inbound.request_id
    assert (inbound.headers["x-gateway-tags"], inbound.headers["api-key"]) == ("a=1, b=2", "igw_x")
    assert before <= inbound.received <= time.monotonic()


async def test_what_can_be_read(port: int, gateway: RecordingGateway) -> None:
    """Models, requests and health answer GET and HEAD; a model's id may hold slashes and colons."""
    key = {"authorization": "Bearer igw_x"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=key) as client:
        for prefix in ("/v1", ""):
            models = (await client.get(f"{prefix}/models")).json()
            assert [model["id"] for model in models["data"]] == ["vendor/model-a", "job:hero_image"]
            for name in ("vendor/model-a", "vendor%2Fmodel-a"):
                assert (await client.get(f"{prefix}/models/{name}")).json()["id"] == "vendor/model-a"
            assert (await client.get(f"{prefix}/requests/req_1")).json() == {"id": "req_1"}
        missing = await client.get("/v1/models/none")
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        unknown, nameless = [(await client.get(f"/v1/{path}/")).json()["error"] for path in ("requests", "models")]
        assert (nameless["code"], nameless["param"]) == (unknown["code"], unknown["param"]) == ("not_found", None)
        head = await client.head("/healthz")
        assert (head.status_code, head.content, int(head.headers["content-length"])) == (200, b"", 16)
        retired = await client.post("/v1/images/variations", content=b"")
        assert (retired.status_code, retired.json()["error"]["code"]) == (410, "endpoint_retired")
        assert (await client.get("/readyz")).status_code == 200
        gateway.reasons = ["ledger: no answer"]
        not_ready = await client.get("/readyz")
    assert (not_ready.status_code, not_ready.json()["error"]["reasons"]) == (503, ["ledger: no answer"])
    assert not_ready.headers["retry-after"] == "1"


async def metrics() -> tuple[bytes, str]:
    """A body as a metrics library gives it."""
    return b"image_gateway_up 1\n", "text/plain; version=0.0.4"


async def view(query: Mapping[str, str]) -> object:
    """Shows its query."""
    if query.get("project") == "none":
        raise NotFound("No such project.")
    return {"query": dict(query)}


async def healthy() -> list[str]:
    """Nothing stands in the way."""
    return []


async def test_the_admin_plane_asks_for_its_token() -> None:
    """With a token everything but liveness needs it as a bearer; the answers come in the same shapes."""
    app = create_admin_app(metrics, "s3cret", healthy, {"spend": view}, {"reload": view})
    async with serving(app) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.get("/healthz")).status_code == 200
        for path in ("/metrics", "/readyz", "/admin/spend"):
            for given in (None, "Bearer", "Bearer s3cre", "Basic s3cret", "Bearer s3cret%C3%BC"):
                refused = await client.get(path, headers={"authorization": given} if given else {})
                assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
        client.headers["authorization"] = "Bearer s3cret"
        scraped = await client.get("/metrics")
        assert (scraped.text, scraped.headers["content-type"]) == ("image_gateway_up 1\n", "text/plain; version=0.0.4")
        assert (await client.get("/admin/spend?project=a&by=route")).json() == {
            "query": {"project": "a", "by": "route"}
        }
        assert (await client.get("/admin/spend?project=none")).json()["error"]["code"] == "not_found"
        assert (await client.post("/admin/reload")).json() == {"query": {}}
        assert (await client.get("/admin/reload")).status_code == 405
        assert (await client.get("/admin/none")).json()["error"]["code"] == "not_found"


async def test_the_admin_plane_is_open_without_a_token() -> None:
    """No token, no question: it listens on loopback then."""
    app = create_admin_app(metrics, None, healthy, {})
    async with serving(app) as port, httpx.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 200


async def test_two_servers_share_one_loop_and_end_together(gateway: RecordingGateway) -> None:
    """Several applications are served side by side, and one event ends them and frees their ports."""
    app = create_admin_app(metrics, None, healthy, {})
    shutdown, sockets = asyncio.Event(), [listen("127.0.0.1", 0), listen("127.0.0.1", 0)]
    ports = [sock.getsockname()[1] for sock in sockets]
    servers = [asyncio.create_task(serve_app(app, sock, shutdown=shutdown, grace=1)) for sock in sockets]
    async with httpx.AsyncClient() as client:
        for port in ports:
            answer = await client.get(f"http://127.0.0.1:{port}/healthz")
            assert (answer.status_code, "server" in answer.headers, "date" in answer.headers) == (200, False, True)
    shutdown.set()
    await asyncio.gather(*servers)
    for port in ports:
        listen("127.0.0.1", port).close()


def test_a_port_in_use_is_one_clear_line() -> None:
    """What cannot be listened on is said in words, without an errno."""
    with listen("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match=f"^port {port} on 127.0.0.1 is in use; ") as caught:
            listen("127.0.0.1", port)
    assert isinstance(caught.value.__cause__, OSError)
    assert caught.value.__cause__.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match=r"^192\.0\.2\.1 is not an address of this machine$"):
        listen("192.0.2.1", 8080)
    for host in ("nohost.invalid", ""):
        with pytest.raises(OSError, match=f"^--host: {host!r} is not an address of this machine$"):
            listen(host, 0, option="--port", host_option="--host")


async def test_json_answers_are_not_cached(port: int) -> None:
    """Every answer of the gateway itself forbids caches to keep it."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/healthz")
    assert (answer.headers["cache-control"], json.loads(answer.content)) == ("no-store", {"status": "ok"})
