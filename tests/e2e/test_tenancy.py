"""Whose is what: every path that takes an id, by every method, tells a stranger the same as of an id that never was.

The paths are those of the data plane's own table: one that is not told of here makes a test fail.
"""

from __future__ import annotations

import itertools
import json
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.routing import Route

from gateway.domain.links import mark_of
from gateway.facade import Gateway
from gateway.sandbox.client import Sandbox
from gateway.web.app import create_app
from tests.e2e.stack import Reply, Stack, fetch, running_gateway, wait_until

POLICY = """
text_models:
  gpt-5.2:
    context: 400000
    max_tokens_per_image: 1536
    price: [{from: 2026-01-01, text_in: "1.75", text_in_cached: "0.175", text_out: "14"}]
providers:
  main: {kind: openai, base_url: "${SANDBOX_URL}/openai/v1", api_key: "${SANDBOX_KEY}"}
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
  own: {provider: main, model: gpt-image-2.5-flare, upstream_model: gpt-image-2.5-flare}
job_types:
  draft: {routes: [main], defaults: {size: 1024x1024, quality: low}, cache: 24h}
  chat:
    routes: [main]
    defaults: {quality: low, size: 1024x1024}
    responses: {provider: main, models: [gpt-5.2], max_images: 2, max_output_tokens: 2000}
  private: {routes: [own], defaults: {size: 1024x1024, quality: low}}
projects:
  owner:
    job_types: [draft, chat, private]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
    images: {store: always, keep: 7d}
  stranger:
    job_types: [draft, chat]
    default_job_type: draft
    budgets: [{window: total, limit: "1000"}]
    images: {store: always, keep: 7d}
"""
PREFIXES = ("/v1", "", "/openai/v1", "/openai")
IDS = {
    "/models/{id:path}": "model",
    "/requests/{id}": "request",
    "/assets/{id}": "asset",
    "/tasks/{id}": "task",
    "/tasks/{id}/cancel": "task",
    "/responses/{id}": "response",
    "/responses/{id}/cancel": "response",
    "/responses/{id}/input_items": "response",
}
"""What the id of each path names."""
LISTINGS = {"/assets": "asset", "/tasks": "task", "/models": "model"}
CREATIONS = {"/images/generations", "/images/edits", "/images/variations", "/responses"}
CREATIONS |= {"/responses/compact", "/responses/input_tokens"}
"""Paths without an id in them; those that a body may name are tested one by one."""
NOBODYS = {"/healthz", "/readyz", "/openapi.json"}
WITHOUT_TENANTS = {
    "/openai/deployments/{name}/images/generations": "the name of a model, in policy",
    "/openai/deployments/{name}/images/edits": "the name of a model, in policy",
    "/openai/deployments/{name}/images/variations": "likewise; nobody's are served",
    "/openai/images/variations": "nobody's are served",
    "/v1/hints/{token}": "nobody has a key there: a token that cannot be guessed is looked for, and tells nothing",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
GENERATE, EDIT, RESPOND = "/v1/images/generations", "/v1/images/edits", "/v1/responses"
CHAT: dict[str, Any] = {"model": "gpt-5.2", "input": "a lighthouse", "tools": [{"type": "image_generation"}]}
TALKING = {"x-gateway-job-type": "chat"}


def table() -> list[Route]:
    """The data plane's paths; who answers them is not asked."""
    routes = create_app(cast("Gateway", _Nobody())).router.routes
    assert all(isinstance(route, Route) for route in routes)
    return cast("list[Route]", routes)


class _Nobody:
    """Stands where nothing is called: only the table of paths is read."""

    def __getattr__(self, name: str) -> object:
        return lambda *_: name


def below(path: str) -> str:
    """A path without the prefix under which it is served."""
    prefix = next(each for each in sorted(PREFIXES, key=len, reverse=True) if path.startswith(f"{each}/"))
    return path.removeprefix(prefix)


WITH_ID = sorted(route.path for route in table() if "{" in route.path and route.path not in WITHOUT_TENANTS)


@dataclass
class Tenants:
    """A gateway, and what the owner has there: ids by what they name."""

    stack: Stack
    ids: dict[str, str] = field(default_factory=dict)
    link: str = ""
    revoked: str = ""

    def ask(
        self,
        method: str,
        path: str,
        who: str = "stranger",
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request with somebody's key."""
        key = self.revoked if who == "revoked" else self.stack.key(who)
        every = {"authorization": f"Bearer {key}", **(headers or {})}
        return fetch(f"http://127.0.0.1:{self.stack.port}{path}", method=method, headers=every, body=body)


def unknown(kind: str, like: str) -> str:
    """An id of the same form that never was given to anybody; of an asset, one in the stranger's own name."""
    if kind == "asset":
        return f"img_{mark_of('stranger')}_{secrets.token_hex(32)}"
    if kind == "model":
        return "x" * len(like)
    prefix, _, rest = like.partition("_")
    return f"{prefix}_{secrets.token_hex(len(rest))[: len(rest)]}"


def told(reply: Reply, *names: str) -> tuple[int, dict[str, str], bytes]:
    """All that an answer tells, but for the id that was asked for, the request's own, and the time."""
    body = reply.body
    own = reply.headers.get("x-request-id", "")
    for name in (*names, own):
        body = body.replace(name.encode(), b"ID") if name else body
    headers = {name: value for name, value in reply.headers.items() if name not in ("x-request-id", "date")}
    for name in names:
        headers = {each: value.replace(name, "ID") for each, value in headers.items()}
    return reply.status, headers, body


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Tenants]:
    """An owner who has one of everything, a stranger, and a key of the owner's that was revoked."""
    with running_gateway(tmp_path_factory.mktemp("tenancy"), POLICY, sandbox, "--max-wrong-keys", "0") as stack:
        made = Tenants(stack)
        image = made.ask("POST", GENERATE, "owner", {"prompt": "a cat", "response_format": "url"})
        assert image.status == 200, image.body
        made.ids["request"] = image.headers["x-request-id"]
        assets = made.ask("GET", "/v1/assets", "owner").json["data"]
        made.ids["asset"], made.link = assets[0]["id"], assets[0]["url"]
        made.ids["task"] = made.ask("POST", GENERATE, "owner", {"prompt": "a dog", "async": True}).json["id"]
        talk = made.ask("POST", RESPOND, "owner", CHAT, TALKING)
        assert talk.status == 200, talk.body
        made.ids["response"] = talk.json["id"]
        made.ids["model"] = "gpt-image-2.5-flare"
        done = lambda: made.ask("GET", f"/v1/tasks/{made.ids['task']}", "owner").json["status"] == "completed"  # noqa: E731
        wait_until(done, 60, "the task")
        key = stack.command("keys", "create", "--project", "owner", "--name", "old")
        made.revoked = key.stdout.strip()
        assert made.ask("GET", "/v1/models", "revoked").status == 200
        listed = json.loads(stack.command("keys", "list", "--format", "json").stdout)
        revoked = next(each["id"] for each in listed if each["name"] == "old")
        assert stack.command("keys", "revoke", revoked).returncode == 0
        wait_until(lambda: made.ask("GET", "/v1/models", "revoked").status == 401, 30, "the end of the key")
        yield made


def test_every_path_is_told_of() -> None:
    """A path that is new to the data plane, with an id or without one, has to be placed here."""
    for route in table():
        known = (
            route.path in WITHOUT_TENANTS or route.path in NOBODYS or below(route.path) in {*IDS, *LISTINGS, *CREATIONS}
        )
        assert known, f"nobody tests whose ids {route.path} takes"


@pytest.mark.parametrize("path", WITH_ID)
def test_a_strangers_id_is_as_one_that_never_was(tenants: Tenants, path: str) -> None:
    """Status, headers and body are the same, by every method, for the owner's id and one that nobody had."""
    kind = IDS[below(path)]
    mine = tenants.ids[kind]
    bare = re.sub(r"\{id(:path)?\}", "ID", path)
    served = {method for route in table() if route.path == path for method in route.methods or ()}
    for method in METHODS:
        never = unknown(kind, mine)
        there = told(tenants.ask(method, bare.replace("ID", mine)), mine)
        nowhere = told(tenants.ask(method, bare.replace("ID", never)), never)
        assert there == nowhere, f"{method} {path}"
        assert there[0] == (404 if method in served else 405), f"{method} {path}"


@pytest.mark.parametrize("path", WITH_ID)
def test_a_revoked_key_and_no_key_learn_nothing(tenants: Tenants, path: str) -> None:
    """Both get 401 before anything is looked for, though the ids were their own."""
    kind = IDS[below(path)]
    mine, bare = tenants.ids[kind], re.sub(r"\{id(:path)?\}", "ID", path)
    served = sorted({method for route in table() if route.path == path for method in route.methods or ()})
    for method in served:
        never = unknown(kind, mine)
        answers = [told(tenants.ask(method, bare.replace("ID", name), "revoked"), name) for name in (mine, never)]
        url = f"http://127.0.0.1:{tenants.stack.port}{bare}"
        answers += [told(fetch(url.replace("ID", name), method=method), name) for name in (mine, never)]
        assert {answer[0] for answer in answers} == {401}
        assert answers[0] == answers[1]
        assert answers[2] == answers[3]


def test_the_owner_still_has_everything(tenants: Tenants) -> None:
    """After all that strangers tried, each id is there for its own project, and for another key of it."""
    tenants.stack.keys["second"] = tenants.stack.command("keys", "create", "--project", "owner").stdout.strip()
    talk = tenants.ask("POST", RESPOND, "owner", CHAT, TALKING)  # the provider forgets between tests
    ids = {**tenants.ids, "response": talk.json["id"]}
    for (path, kind), who in itertools.product(IDS.items(), ("owner", "second")):
        if path.endswith(("{id}", "{id:path}")):
            place = re.sub(r"\{id(:path)?\}", ids[kind], path)
            assert tenants.ask("GET", f"/v1{place}", who).status == 200, (path, who)


@pytest.mark.parametrize("path", sorted(LISTINGS))
def test_listings_show_nothing_of_others(tenants: Tenants, path: str) -> None:
    """Neither by themselves nor from another's id on, which is as one that never was."""
    kind = LISTINGS[path]
    mine, never = tenants.ids[kind], unknown(kind, tenants.ids[kind])
    assert mine.encode() in tenants.ask("GET", f"/v1{path}?limit=100", "owner").body
    for query in ("", "?limit=100"):
        assert mine.encode() not in tenants.ask("GET", f"/v1{path}{query}").body
    if kind == "asset":  # the mark in a name tells whose it is: another's, and one of nobody's
        never = f"img_{mark_of('nobody')}_{secrets.token_hex(32)}"
    there = told(tenants.ask("GET", f"/v1{path}?after={mine}"), mine)
    assert there == told(tenants.ask("GET", f"/v1{path}?after={never}"), never)


def test_a_conversation_does_not_go_on_from_anothers(tenants: Tenants) -> None:
    """`previous_response_id` of the owner's is as one that never was; nothing is sent and nothing is held."""
    mine = tenants.ids["response"]
    arrived = len(tenants.stack.sandbox.requests())
    answers = []
    for name in (mine, unknown("response", mine)):
        reply = tenants.ask("POST", RESPOND, "stranger", {**CHAT, "previous_response_id": name}, TALKING)
        answers.append(told(reply, name))
    assert answers[0] == answers[1]
    assert answers[0][0] == 404
    assert len(tenants.stack.sandbox.requests()) == arrived
    assert tenants.stack.held() == 0


IMAGES: dict[str, Callable[[str], dict[str, object]]] = {
    "image_urls": lambda url: {"image_urls": [url]},
    "images": lambda url: {"images": [{"image_url": url}]},
    "mask": lambda url: {"images": [{"image_url": "https://example.com/a.png"}], "mask": {"image_url": url}},
}


@pytest.mark.parametrize("form", sorted(IMAGES))
def test_an_edit_does_not_read_anothers_images(tenants: Tenants, form: str) -> None:
    """A link to the owner's image, signed or bare, is as one to an image that never was, and nothing is sent."""
    mine, base = tenants.ids["asset"], f"http://127.0.0.1:{tenants.stack.port}/v1/assets/"
    never = unknown("asset", mine)
    arrived = len(tenants.stack.sandbox.requests())
    query = tenants.link.partition("?")[2]
    answers = []
    for url in (tenants.link, f"{base}{mine}", f"{base}{never}?{query}", f"{base}{never}"):
        reply = tenants.ask("POST", EDIT, "stranger", {"prompt": "blue", **IMAGES[form](url)})
        answers.append(told(reply, mine, never))
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == 400
    assert len(tenants.stack.sandbox.requests()) == arrived


def test_anothers_idempotency_key_is_another_key(tenants: Tenants) -> None:
    """The same key and body from another project is a request of its own: nobody is given another's answer."""
    body, key = {"prompt": "the same"}, {"idempotency-key": "shared-by-chance"}
    first = tenants.ask("POST", GENERATE, "owner", body, key)
    again = tenants.ask("POST", GENERATE, "owner", body, key)
    other = tenants.ask("POST", GENERATE, "stranger", body, key)
    assert [reply.status for reply in (first, again, other)] == [200] * 3
    assert again.headers["x-request-id"] == first.headers["x-request-id"]
    assert "idempotent-replayed" not in other.headers
    assert other.headers["x-request-id"] != first.headers["x-request-id"]


def test_an_answer_from_the_cache_is_the_projects_own(tenants: Tenants) -> None:
    """The same request of another project is made and paid for: the cache tells nobody what others asked for."""
    sandbox, body = tenants.stack.sandbox, {"prompt": "cached", "response_format": "url"}
    first = tenants.ask("POST", GENERATE, "owner", body)
    found: list[Reply] = []

    def hit() -> bool:  # what an answer had is kept while its client reads on
        found.append(tenants.ask("POST", GENERATE, "owner", body))
        return "x-gateway-cache" in found[-1].headers

    wait_until(hit)
    again, made = found[-1], len(sandbox.requests())
    assert again.json["data"][0]["url"].partition("?")[0] in {
        reply.json["data"][0]["url"].partition("?")[0] for reply in (first, *found[:-1])
    }
    other = tenants.ask("POST", GENERATE, "stranger", body)
    assert [reply.status for reply in (first, again, other)] == [200] * 3
    assert "x-gateway-cache" not in other.headers
    assert len(sandbox.requests()) == made + 1
    assert mark_of("stranger") in other.json["data"][0]["url"]


FILES: tuple[tuple[str, dict[str, Any]], ...] = (
    (EDIT, {"prompt": "blue", "images": [{"file_id": "file-1"}]}),
    (EDIT, {"prompt": "blue", "images": [{"image_url": "https://example.com/a.png"}], "mask": {"file_id": "file-1"}}),
    (RESPOND, {**CHAT, "input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]}),
    (RESPOND, {**CHAT, "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]}),
    (RESPOND, {**CHAT, "tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file-1"}}]}),
)


@pytest.mark.parametrize(("path", "body"), FILES, ids=[str(number) for number in range(len(FILES))])
def test_files_of_an_account_that_is_shared_are_nobodys(tenants: Tenants, path: str, body: dict[str, Any]) -> None:
    """Any project of the account could name another's file: none may, and nothing is sent."""
    arrived = len(tenants.stack.sandbox.requests())
    reply = tenants.ask("POST", path, "stranger", body, TALKING if path == RESPOND else None)
    assert (reply.status, reply.error["code"]) == (400, "shared_account"), reply.body
    assert len(tenants.stack.sandbox.requests()) == arrived
    assert tenants.stack.held() == 0


def test_files_of_an_account_of_ones_own_are_named(tmp_path: Path, sandbox: Sandbox) -> None:
    """Where no other project may use the account, a file's id goes through, by edits and by conversations."""
    alone = POLICY.partition("  stranger:")[0]
    with running_gateway(tmp_path, alone, sandbox) as stack:
        for path, body in FILES:
            headers = TALKING if path == RESPOND else {}
            reply = stack.post(path, body, project="owner", headers=headers)
            assert reply.status == 200, reply.body
        assert len(sandbox.requests()) == len(FILES)


def test_a_signed_link_is_good_for_its_image_alone(tenants: Tenants) -> None:
    """It needs no key, reads one image, changes nothing, and is void when any part of it was changed."""
    link, mine = tenants.link, tenants.ids["asset"]
    bare, _, query = link.partition("?")
    assert fetch(link).status == fetch(link, method="HEAD").status == 200
    expires = re.search(r"expires=(\d+)", query)
    assert expires is not None
    past = query.replace(expires[0], "expires=1000000000")
    changed = (
        f"{bare}?{past}",
        f"{bare}?{query.replace(expires[0], f'expires={int(expires[1]) + 1}')}",
        f"{bare}?{query}0",
        f"{bare}?{query[:-1]}",
        f"{bare.replace(mine, unknown('asset', mine))}?{query}",
        f"{bare}?{expires[0]}&signature=",
        f"{bare}?{query}&{expires[0]}0",
    )
    for url in changed:
        assert (fetch(url).status, fetch(url).error["code"]) == (403, "invalid_link"), url
    for method in ("DELETE", "POST", "PUT", "PATCH"):
        assert fetch(link, method=method).status == (401 if method == "DELETE" else 405)
        assert tenants.ask(method, link.partition(str(tenants.stack.port))[2]).status in (404, 405)
    assert fetch(link).status == 200
