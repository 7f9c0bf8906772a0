"""Who may look: sessions, and what protects an admin plane that a browser can reach."""

from __future__ import annotations

from gateway.console.sessions import IDLE_SECONDS, LONGEST_SECONDS, Sessions, cookie, secret_in
from tests.console.conftest import TOKEN
from tests.e2e.stack import Reply, Stack, fetch

OPEN_TO_ALL = ("/console/login", "/console/static/console.css")
ASKED = (
    "overview",
    "spend",
    "budgets",
    "budget",
    "routes",
    "requests",
    "request",
    "tasks",
    "policy",
    "keys",
    "session",
)
DONE = ("explain", "keys/create", "keys/rotate", "keys/revoke", "callbacks/retry", "reload")


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return what it was set to."""
        return self.now


def test_a_session_ends_when_it_is_not_used_and_in_any_case_in_the_end() -> None:
    """It goes on while it is used, for twelve hours at most, and ends two hours after its last use."""
    clock = Clock()
    sessions = Sessions(clock)
    used, left = sessions.begin(), sessions.begin()
    for _ in range(int(LONGEST_SECONDS // IDLE_SECONDS)):
        clock.now += IDLE_SECONDS - 1
        assert sessions.use(used)
    assert not sessions.goes_on(left)
    assert not sessions.use(left)
    clock.now += IDLE_SECONDS - 1
    assert not sessions.use(used)
    assert not sessions.use("no session")


def test_the_cookie_is_for_the_console_alone() -> None:
    """No script reads it, no other site has it sent, and over TLS it never goes in the clear."""
    made = cookie("igw_console_9090", "secret", encrypted=True)
    assert made == "igw_console_9090=secret; Path=/console; HttpOnly; SameSite=Strict; Secure"
    assert secret_in("a=b; igw_console_9090=secret; c", "igw_console_9090") == "secret"
    assert secret_in("", "igw_console_9090") == ""


def ask(stack: Stack, path: str, method: str = "GET", body: object = None, **headers: str) -> Reply:
    """Ask the admin plane, without a token unless a header has it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return fetch(f"http://127.0.0.1:{stack.admin_port}{path}", method=method, body=body, headers=named)


def test_nothing_is_shown_or_done_without_a_session(stack: Stack) -> None:
    """Every view and every action asks for the session; the page itself leads to the login."""
    for name in ASKED:
        assert ask(stack, f"/console/api/{name}").status == 401, name
    assert ask(stack, "/console/events").status == 401
    assert ask(stack, "/console/images/x").status == 401
    for name in DONE:
        assert ask(stack, f"/console/api/{name}", "POST", {}, x_console="1").status == 401, name
    for path in OPEN_TO_ALL:
        answer = ask(stack, path)
        assert answer.status == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert b'id="login"' in ask(stack, "/console").body


def _session(stack: Stack) -> str:
    answer = ask(stack, "/console/login", "POST", {"token": TOKEN}, x_console="1")
    assert answer.status == 204, answer.body
    return answer.headers["set-cookie"].partition(";")[0]


def test_another_site_cannot_do_anything_with_the_session(stack: Stack) -> None:
    """A request that changes something needs the page's own header and, where a browser tells, its own origin."""
    session, own = _session(stack), f"http://127.0.0.1:{stack.admin_port}"
    asked = {"project": "team", "request": {"prompt": "x"}}
    path = "/console/api/explain"
    assert ask(stack, path, "POST", asked, cookie=session, x_console="1", origin=own).status == 200
    assert ask(stack, path, "POST", asked, cookie=session, x_console="1").status == 200
    assert ask(stack, path, "POST", asked, cookie=session, origin=own).status == 403
    for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
        assert ask(stack, path, "POST", asked, cookie=session, x_console="1", origin=origin).status == 403
    assert ask(stack, path, "POST", asked, cookie=session, x_console="1", sec_fetch_site="cross-site").status == 403


def test_the_session_opens_the_console_and_nothing_else(stack: Stack) -> None:
    """`/admin` and `/metrics` ask for the bearer token as before, session or not."""
    session = _session(stack)
    assert ask(stack, "/admin/budgets", cookie=session).status == 401
    assert ask(stack, "/metrics", cookie=session).status == 401
    assert ask(stack, "/admin/budgets", authorization=f"Bearer {TOKEN}").status == 200
