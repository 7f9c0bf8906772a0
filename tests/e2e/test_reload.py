"""Policy that changes while the gateway serves."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.config.load import load_policy
from gateway.ledger.store import store_url
from gateway.process.app import Application, Settings, running_application
from gateway.process.reload import PolicyReloader
from gateway.process.today import today
from gateway.sandbox.client import Sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[Stack]:
    """A gateway whose policy this test may change."""
    with running_gateway(tmp_path_factory.mktemp("reload"), ONE_ACCOUNT, sandbox) as running:
        yield running


def put(policy: Path, text: str) -> None:
    """Write the one file of a policy."""
    (policy / "policy.yaml").write_text(text)


def swap(policy: Path, text: str) -> None:
    """Put another in the place of the one file of a policy."""
    (policy / "new").write_text(text)
    (policy / "new").replace(policy / "policy.yaml")


def write(stack: Stack, text: str) -> None:
    """Replace the policy."""
    put(stack.policy, text)


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


PROVIDER = """
providers:
  main: {kind: openai, base_url: "http://127.0.0.1:1/v1", api_key: "${KEY}"}
"""
REST = """
routes:
  main: {provider: main, model: gpt-image-2, upstream_model: gpt-image-2-2026-04-21}
job_types:
  draft: {routes: [main]}
projects:
  team: {job_types: [draft], default_job_type: draft, budgets: [{window: total, limit: "1"}]}
"""
WHOLE = PROVIDER + REST


class WritesMeanwhile(dict[str, str]):
    """An environment; when it is asked for anything, whoever writes the policy gets to the end of it."""

    def __init__(self, policy: Path) -> None:
        super().__init__(KEY="sk-1")
        self._policy = policy

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # as it is asked
        """Look a name up."""
        self._policy.write_text(WHOLE)
        return super().get(name, default)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A policy with a project."""
    directory = tmp_path / "policy"
    directory.mkdir()
    put(directory, WHOLE)
    return directory


@asynccontextmanager
async def application_of(directory: Path) -> AsyncIterator[Application]:
    """Yield a gateway's application that serves by a policy."""
    policy = load_policy(directory, environ={"KEY": "sk-1"}, today=today()).policy
    assert policy is not None
    settings = Settings(data=directory.parent / "data")
    with store_url("embedded:", settings.data) as url:
        async with running_application(settings, policy, url) as application:
            yield application


async def test_a_file_that_is_read_half_written_is_read_again(directory: Path) -> None:
    """What an editor had only begun to write checks, and has no project: nobody is refused for it."""
    async with application_of(directory) as application:
        put(directory, PROVIDER)
        loaded = await PolicyReloader(application, directory, WritesMeanwhile(directory / "policy.yaml")).reload()
        assert loaded.policy is not None
        assert application.policy is loaded.policy
        assert "team" in application.policy.projects


async def test_a_writer_that_rests_in_the_middle_is_waited_for(directory: Path) -> None:
    """A file that was written a moment ago is looked at once more before anybody is served by it."""
    async with application_of(directory) as application:
        reloader = PolicyReloader(application, directory, {"KEY": "sk-1"})
        put(directory, PROVIDER)
        reloading = asyncio.create_task(reloader.reload())
        await asyncio.sleep(0.05)
        put(directory, WHOLE + "# the rest\n")
        assert (await reloading).policy is application.policy
        assert "team" in application.policy.projects


async def test_a_file_that_is_replaced_is_waited_for(directory: Path) -> None:
    """Some editors take the old one away before they put the new one there."""
    put(directory, PROVIDER)
    (directory / "rest.yaml").write_text(REST)
    async with application_of(directory) as application:
        reloader = PolicyReloader(application, directory, {"KEY": "sk-1"})
        (directory / "rest.yaml").unlink()
        reloading = asyncio.create_task(reloader.reload())
        await asyncio.sleep(0.05)
        (directory / "rest.yaml").write_text(REST)
        assert (await reloading).policy is application.policy
        assert "team" in application.policy.projects


async def test_files_that_never_keep_still_are_read_as_they_are(directory: Path) -> None:
    """Whoever asked is not kept waiting for ever."""
    async with application_of(directory) as application:
        reloader = PolicyReloader(application, directory, {"KEY": "sk-1"})
        swap(directory, WHOLE + "# 0\n")
        reloading = asyncio.create_task(reloader.reload())
        for number in range(1000):
            swap(directory, WHOLE + "# 1" * number + "\n")
            await asyncio.sleep(0.01)
            if reloading.done():
                break
        assert (await reloading).policy is application.policy


async def test_an_empty_file_is_a_problem_and_the_old_policy_serves_on(directory: Path) -> None:
    """However long its writer rests: a file that was only opened for writing says nothing yet."""
    async with application_of(directory) as application:
        before = application.policy
        put(directory, "")
        loaded = await PolicyReloader(application, directory, {"KEY": "sk-1"}).reload()
        assert loaded.policy is None
        assert "is empty" in str(loaded.problems[0])
        assert application.policy is before
