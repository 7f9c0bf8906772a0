"""Policy that changes while the gateway serves."""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.running import read_policy
from gateway.config.fingerprint import source_of
from gateway.config.load import Loaded, load_policy
from gateway.domain.errors import InvalidRequest
from gateway.ledger.store import store_url
from gateway.process.app import Application, Settings, running_application
from gateway.process.reload import PolicyReloader
from gateway.process.today import today
from gateway.sandbox.client import Sandbox
from tests.e2e.policies import ONE_ACCOUNT
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until
from tests.ledger.rules import candidate
from tests.ledger.work import held_ahead, new_request
from tests.processes import Process
from tests.rig import PATIENCE


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


def _ignored(pid: int) -> bool:
    """Whether a process ignores SIGHUP (proc(5), SigIgn): an interpreter that has run nothing yet does not."""
    found = re.search(r"^SigIgn:\s*(\w+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> (signal.SIGHUP - 1) & 1)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_hangup_before_it_serves_ends_nothing(tmp_path: Path, sandbox: Sandbox, workers: str) -> None:
    """Whoever sends one to a gateway that only starts, as a tool that writes its policy does, has it started."""

    def hang_up(process: Process) -> None:
        wait_until(lambda: _ignored(process.pid), 30, "the first lines of the command")
        for _ in range(20):
            process.send_signal(signal.SIGHUP)
            time.sleep(0.1)

    with running_gateway(tmp_path, ONE_ACCOUNT, sandbox, "--workers", workers, begun=hang_up) as stack:
        assert stack.post("/v1/images/generations", {"prompt": "x", "quality": "low"}).status == 200
        assert stack.stop() == 0


def test_a_secret_that_comes_or_changes_is_taken_over(own: Stack, tmp_path: Path) -> None:
    """A policy may name a file that is mounted a moment later, and a key is changed where it lies: neither waits."""
    asked = {"prompt": "x", "quality": "low"}
    secret = tmp_path / "key"
    write(own, ONE_ACCOUNT.replace("${SANDBOX_KEY}", f"${{file:{secret}}}"))
    wait_until(lambda: loads(own, "failed"), what="the reload that finds no secret")
    before = loads(own, "ok")
    secret.touch(mode=0o600)
    secret.write_text("sk-wrong")
    wait_until(lambda: loads(own, "ok") > before, what="the reload that finds it")
    assert own.post("/v1/images/generations", asked).status != 200
    secret.write_text(own.sandbox.api_key)
    wait_until(lambda: own.post("/v1/images/generations", asked).status == 200, 30, what="the key that is right")


def test_the_log_names_what_a_reload_failed_for_and_warns_of_what_it_took(own: Stack, tmp_path: Path) -> None:
    """The mask that hides secrets leaves key and variable or file of a missing one; warnings are lines too."""

    def said(words: str) -> None:
        wait_until(lambda: words in own.log.read_text(), what=words)

    file = own.policy / "policy.yaml"
    write(own, ONE_ACCOUNT.replace("${SANDBOX_KEY}", "${NO_SUCH_KEY}"))
    said("providers.main.api_key environment variable NO_SUCH_KEY is not set")
    write(own, ONE_ACCOUNT.replace("${SANDBOX_KEY}", f"${{file:{tmp_path}/absent}}"))
    said(f"providers.main.api_key {tmp_path}/absent cannot be read: No such file or directory")
    assert f"policy problem: {file}:" in own.log.read_text()
    (own.policy / "more.yaml").write_text('budgets: [{window: hour, limit: "0"}]\n')
    write(own, ONE_ACCOUNT)
    said(f"policy warning: {own.policy}/more.yaml:1: budgets[0].limit a budget of 0 refuses everything it covers")


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
        loaded = await PolicyReloader(
            application, source_of(directory), WritesMeanwhile(directory / "policy.yaml")
        ).reload()
        assert loaded.policy is not None
        assert application.policy is loaded.policy
        assert "team" in application.policy.projects


async def test_a_writer_that_rests_in_the_middle_is_waited_for(directory: Path) -> None:
    """A file that was written a moment ago is looked at once more before anybody is served by it."""
    async with application_of(directory) as application:
        reloader = PolicyReloader(application, source_of(directory), {"KEY": "sk-1"})
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
        reloader = PolicyReloader(application, source_of(directory), {"KEY": "sk-1"})
        (directory / "rest.yaml").unlink()
        reloading = asyncio.create_task(reloader.reload())
        await asyncio.sleep(0.05)
        (directory / "rest.yaml").write_text(REST)
        assert (await reloading).policy is application.policy
        assert "team" in application.policy.projects


async def test_files_that_never_keep_still_are_read_as_they_are(directory: Path) -> None:
    """Whoever asked is not kept waiting for ever."""
    async with application_of(directory) as application:
        reloader = PolicyReloader(application, source_of(directory), {"KEY": "sk-1"})
        swap(directory, WHOLE + "# 0\n")
        reloading = asyncio.create_task(reloader.reload())
        for number in range(1000):
            swap(directory, WHOLE + "# 1" * number + "\n")
            await asyncio.sleep(0.01)
            if reloading.done():
                break
        assert (await reloading).policy is application.policy


class Changes(dict[str, str]):
    """An environment; when it is asked for anything, the limit of a policy's budget is doubled."""

    def __init__(self, policy: Path) -> None:
        super().__init__(KEY="sk-1")
        self._policy = policy

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # as it is asked
        """Look a name up."""
        self._policy.write_text(WHOLE.replace('limit: "1"', 'limit: "2"'))
        return super().get(name, default)


class Held(dict[str, str]):
    """An environment that gives nothing away until it is let go."""

    def __init__(self) -> None:
        super().__init__(KEY="sk-1")
        self.asked, self.let_go, self.answered = threading.Event(), threading.Event(), threading.Event()

    def get(self, name: str, default: str | None = None) -> str | None:  # type: ignore[override]  # as it is asked
        """Look a name up."""
        self.asked.set()
        self.let_go.wait(60)
        self.answered.set()
        return super().get(name, default)


def test_a_stop_does_not_wait_for_a_policy_that_is_being_read(directory: Path) -> None:
    """However long that takes: nobody will be served by it."""
    environ = Held()

    async def serve() -> None:
        async with application_of(directory) as application:
            reading = asyncio.create_task(PolicyReloader(application, source_of(directory), environ).reload())
            await asyncio.to_thread(environ.asked.wait)
            reading.cancel()

    asyncio.run(serve())
    ended_first = not environ.answered.is_set()
    environ.let_go.set()

    assert ended_first


async def test_an_empty_file_is_a_problem_and_the_old_policy_serves_on(directory: Path) -> None:
    """However long its writer rests: a file that was only opened for writing says nothing yet."""
    async with application_of(directory) as application:
        before = application.policy
        put(directory, "")
        loaded = await PolicyReloader(application, source_of(directory), {"KEY": "sk-1"}).reload()
        assert loaded.policy is None
        assert "is empty" in str(loaded.problems[0])
        assert application.policy is before


async def test_budgets_that_begin_in_the_middle_are_told(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A budget of another window, view or scope counts from zero, and a line says so; none of a limit or a project."""
    async with application_of(directory) as application:
        reloader = PolicyReloader(application, source_of(directory), {"KEY": "sk-1"})
        begun = '{window: day, limit: "1"}, {window: day, view: official, limit: "1"}'
        more = WHOLE.replace('limit: "1"}', f'limit: "2"}}, {begun}')
        other = '  other: {job_types: [draft], default_job_type: draft, budgets: [{window: day, limit: "1"}]}\n'
        put(directory, more + other + 'budgets: [{window: month, limit: "9"}]\n')
        with caplog.at_level(logging.WARNING, "gateway.policy"):
            assert (await reloader.reload()).policy is not None
            told = [line.partition("on it: ")[2] for line in caplog.messages if "a budget is new" in line]
            await reloader.reload()
        assert told == [
            "everything per month, view route",
            "project:team per day, view route",
            "project:team per day, view official",
        ]
        assert sum("a budget is new" in line for line in caplog.messages) == 3


async def test_a_budget_that_is_put_back_is_told_with_what_it_counted(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its counter goes on where it stood when it was taken out; a line says where."""
    async with application_of(directory) as application:
        [budget] = application.policy.projects["team"].budgets
        await held_ahead(application.ledger, new_request(), candidate((budget, 250_000)))
        reloader = PolicyReloader(application, source_of(directory), {"KEY": "sk-1"})
        put(directory, WHOLE.replace(', budgets: [{window: total, limit: "1"}]', ""))
        assert (await reloader.reload()).policy is not None
        assert not application.policy.projects["team"].budgets
        put(directory, WHOLE)
        with caplog.at_level(logging.WARNING, "gateway.policy"):
            assert (await reloader.reload()).policy is not None
        [line] = [line for line in caplog.messages if "budget" in line]
        assert line.startswith("a budget is put back and goes on at $0.25, ")
        assert line.endswith(": project:team per total, view route")


async def test_a_policy_that_cannot_be_served_is_a_failed_reload(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the check passes that no provider can be made of: the old policy serves on whole, and a log says why."""
    async with application_of(directory) as application:
        before, setup = application.policy, application.service._current()
        main = replace(before.providers["main"], base_url="http://10.0.0.256/v1")
        more = replace(before, providers={"next": before.providers["main"], "main": main}, digest="1" * 16)
        monkeypatch.setattr("gateway.process.reload.load_policy", lambda *_, **__: Loaded(more, (), ()))
        reloader = PolicyReloader(application, source_of(directory), {"KEY": "sk-1"})
        with caplog.at_level(logging.ERROR, "gateway.policy"), pytest.raises(InvalidRequest) as refused:
            await reloader.answer({})
        assert refused.value.code == "invalid_policy"
        assert "cannot be served: InvalidURL" in refused.value.message
        assert any(record.exc_info for record in caplog.records)
        assert application.policy is before
        assert application.service._current() is setup
        assert (await application.snapshot()).last_reload_successful is False


async def test_what_changes_while_a_gateway_starts_is_taken_over(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files are compared with what they were before they were read at the start, however long that took."""
    monkeypatch.setattr("gateway.process.reload.POLL_SECONDS", 0.01)
    began_with, _, source = read_policy(directory, Changes(directory / "policy.yaml"))
    async with application_of(directory) as application:
        application.adopt(began_with)
        reloading = asyncio.create_task(PolicyReloader(application, source, {"KEY": "sk-1"}).run())
        async with asyncio.timeout(PATIENCE):
            while application.policy is began_with:  # noqa: ASYNC110 - a policy tells nobody that it is served
                await asyncio.sleep(0.01)
        reloading.cancel()
        assert application.policy.projects["team"].budgets[0].limit == 2 * began_with.projects["team"].budgets[0].limit


def test_a_policy_that_is_written_while_serve_starts_is_served(tmp_path: Path, sandbox: Sandbox) -> None:
    """A roll-out that changes it between its reading and the first answer needs no signal."""

    def change(_: Process) -> None:
        wait_until((tmp_path / "data").exists, 30, "the folder that is made when policy was read")
        put(tmp_path / "policy", ONE_ACCOUNT + "# changed\n")

    with running_gateway(tmp_path, ONE_ACCOUNT, sandbox, begun=change) as stack:
        loaded = load_policy(stack.policy, environ=stack.environ, today=today()).policy
        assert loaded is not None
        wait_until(lambda: stack.metric("policy_info", digest=loaded.digest), what="the policy that was written last")
