"""Policy that changes while the gateway serves."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from gateway.sandbox.client import Sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose policy this test may change."""
    with running_gateway(tmp_path_factory.mktemp("reload"), ONE_ACCOUNT, sandbox) as running:
        yield running


def write(stack: Stack, text: str) -> None:
    """Replace the policy."""
    (stack.policy / "policy.yaml").write_text(text)


def loads(stack: Stack, result: str) -> float:
    """How often policy was read with this result."""
    return stack.metric("policy_reloads_total", result=result)


def test_a_changed_file_is_served_by_and_a_broken_one_changes_nothing(own: Stack) -> None:
    """A new job type works within moments; after a mistake the last good policy goes on, and says so."""
    asked = {"prompt": "a cat", "size": "1024x1024", "quality": "low"}
    header = {"x-gateway-job-type": "added"}
    assert own.post("/v1/images/generations", asked, headers=header).status == 403

    more = ONE_ACCOUNT.replace("job_types:\n  draft:", "job_types:\n  added: {routes: [main/mini]}\n  draft:", 1)
    more = more.replace("job_types: [draft, only_main,", "job_types: [added, draft, only_main,")
    write(own, more)
    served = wait_until(
        lambda: (reply := own.post("/v1/images/generations", asked, headers=header)).status == 200 and reply,
        what="the new job type",
    )
    assert served.headers["x-gateway-route"] == "main/mini"

    write(own, more.replace("main/mini]", "main/minni]"))
    wait_until(lambda: loads(own, "failed"), what="the failed reload")
    assert own.post("/v1/images/generations", asked, headers=header).status == 200
    wait_until(lambda: "did you mean" in own.log.read_text(), what="the line that says why")


def test_hangup_and_the_admin_plane_reload_too(own: Stack) -> None:
    """SIGHUP reads policy again and ends nothing; POST /admin/reload answers with what is wrong."""
    before = loads(own, "ok")
    own.process.send_signal(signal.SIGHUP)
    wait_until(lambda: loads(own, "ok") > before, what="the reload")

    admin = f"http://127.0.0.1:{own.admin_port}/admin/reload"
    assert fetch(admin, method="POST").json["digest"]
    write(own, "nonsense: {}\n")
    refused = fetch(admin, method="POST")

    assert (refused.status, refused.error["code"]) == (400, "invalid_policy")
    assert any("nonsense" in problem for problem in refused.error["problems"])
    assert own.post("/v1/images/generations", {"prompt": "x", "quality": "low"}).status == 200
