"""Every page of the console in a real Chromium: what it shows is what the ledger says, and anybody can use it."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe  # type: ignore[import-untyped]  # it ships no types
from playwright.sync_api import Browser

from gateway.sandbox.client import Sandbox
from tests.console.conftest import POLICY, Look, Traffic, log_in, look
from tests.e2e.stack import Stack, fetch, running_gateway, wait_until

PAGES = ("overview", "spend", "budgets", "routes", "requests", "tasks", "policy", "explain", "keys")


def test_spend_on_the_page_is_what_the_ledger_says(seen: Look, stack: Stack) -> None:
    """By each dimension, every figure of the page is that of `image-gateway spend`, to the last digit."""
    dimensions = ("project", "job_type", "route", "model")
    rows = stack.spend("--by", ",".join(dimensions), "--window", "month")
    for dimension in dimensions:
        spent: dict[str | None, Decimal] = {}
        for row in rows:
            spent[row[dimension]] = spent.get(row[dimension], Decimal(0)) + Decimal(row["route_usd"])
        seen.go(f"spend?by={dimension}&range=month")
        seen.page.wait_for_selector("[data-figure=total]")
        cells = seen.page.locator("[data-figure]").all()
        found = {
            cell.get_attribute("data-figure"): Decimal((cell.get_attribute("title") or "").lstrip("$"))
            for cell in cells
        }
        assert found.pop("total") == sum(spent.values())
        assert found == spent


def test_metrics_say_the_same(seen: Look, stack: Stack) -> None:
    """What projects spent on the page is what `/metrics` counted, to the cent and by label."""
    headers = {"authorization": "Bearer a token of the admin plane"}
    text = fetch(f"http://127.0.0.1:{stack.admin_port}/metrics", headers=headers).body.decode()
    seen.go("spend?by=project&range=month")
    for project in ("team", "thrifty"):
        lines = re.findall(rf'spend_usd_total{{.*project="{project}".*view="route"}} (\S+)', text)
        shown = seen.page.get_attribute(f"[data-figure={project}]", "title") or ""
        assert round(sum(map(float, lines)), 6) == round(float(shown.lstrip("$")), 6)


def test_the_overview_says_what_happened_and_why(seen: Look, traffic: Traffic) -> None:
    """Refusals, degradations, fallbacks and unconfirmed money are told with their reasons."""
    seen.go("overview")
    seen.shows("project_spend_limit_exceeded", "quality=low", "main/gpt-image-2 → spare/gpt-image-2", "status_5xx")
    seen.shows("presumed, not confirmed", traffic.presumed[:11])
    seen.page.get_by_role("button", name="Route").click()
    seen.page.wait_for_selector(".legend li:has-text('main/gpt-image-2')")
    seen.page.get_by_role("button", name="24 hours").click()
    seen.page.wait_for_selector("text=As a table")
    seen.page.click("summary:has-text('As a table')")
    seen.page.wait_for_selector(".as-table[open] table")


CHART = """async () => {
  const { stacked } = await import("/console/static/chart.js");
  const figure = stacked("Corrections");
  document.body.append(figure);
  figure.show({ times: [1790000000, 1790003600, 1790007200], step: 3600,
    series: [{ name: "team", usd: ["2", "-1.5", "0"] }] });
  const cells = [...figure.querySelectorAll("tbody td")].map((cell) => cell.textContent);
  const said = figure.querySelector(".plot").getAttribute("aria-label");
  figure.remove();
  return [said, figure.querySelectorAll("tbody tr").length, cells.join(" ")];
}"""


def test_hours_on_which_money_was_corrected_downwards_are_told(seen: Look) -> None:
    """They stand in the chart's table, and its sum is theirs too; hours with nothing do not."""
    seen.go("overview")
    said, rows, cells = seen.page.evaluate(CHART)
    assert "$0.5000" in said
    assert (rows, "1.50" in cells) == (2, True)


def test_a_budget_burns_down(seen: Look) -> None:
    """From a budget in the list one click leads to its course, its forecast and when it runs out."""
    seen.go("budgets")
    seen.page.fill("#find", "thrifty")
    seen.page.click("a:has-text('project:thrifty')")
    seen.page.wait_for_selector(".plot canvas")
    seen.shows("Pace per hour", "$0.7000", "Runs out")
    assert "of $0.7000 spent" in (seen.page.get_attribute(".plot", "aria-label") or "")


def test_a_request_opens_with_all_that_is_known(seen: Look, stack: Stack, traffic: Traffic) -> None:
    """The list leads to attempts, three prices, the decision and the stored image of a request."""
    seen.go("requests")
    seen.page.click(f"a[data-key={traffic.fell_back}]")
    seen.shows("Three prices", "given back", "spare/gpt-image-2", "Such a request now", "chosen")
    cost = stack.record(traffic.fell_back)["cost"]
    assert {f"${usd}" for usd in cost.values()} <= set(
        seen.page.locator("[title]").evaluate_all("e => e.map(x => x.title)")
    )
    picture = seen.page.wait_for_selector(".pictures img")
    assert picture
    wait_until(lambda: picture.evaluate("image => image.naturalWidth"), 30, "the thumbnail")
    assert picture.evaluate("image => image.naturalWidth") <= 320


def test_what_happens_appears_by_itself(seen: Look, stack: Stack) -> None:
    """A request that is made while the list is open appears in it, untouched."""
    seen.go("requests")
    made = stack.post("/v1/images/generations", {"prompt": "one more", "quality": "low"})
    seen.page.wait_for_selector(f"a[data-key={made.headers['x-request-id']}]")


def test_keys_are_made_used_rotated_and_revoked(seen: Look, stack: Stack) -> None:
    """A key made here works on the data plane, is shown once, can be replaced, and ends when it is revoked."""
    base = f"http://127.0.0.1:{stack.port}/v1/models"

    def works(key: str) -> bool:
        return fetch(base, headers={"authorization": f"Bearer {key}"}).status == 200

    seen.go("keys")
    seen.page.select_option("#key-project", "team")
    seen.page.fill("#key-name", "made by a click")
    seen.page.click("text=Create key")
    first = seen.page.inner_text("#secret")
    wait_until(lambda: works(first), 30, "the new key")
    row = seen.page.locator("tr", has_text="made by a click")
    row.get_by_role("button", name="Rotate").click()
    seen.page.click("dialog button:has-text('Rotate')")
    seen.shows("Key in place of")
    second = seen.page.inner_text("#secret")
    assert second != first
    wait_until(lambda: works(second) and not works(first), 30, "the rotation")
    live = seen.page.locator("tr", has_text="made by a click").filter(has_text="live")
    live.get_by_role("button", name="Revoke").click()
    seen.page.click("dialog button:has-text('Revoke')")
    wait_until(lambda: not works(second), 30, "the revocation")
    seen.page.reload()
    seen.page.wait_for_selector(".page[data-ready]")
    assert second not in seen.page.content()
    ended = seen.page.locator("tr", has_text="made by a click").filter(has_text="revoked")
    assert ended.count() == 2
    for number in range(2):
        assert ended.nth(number).locator("time").count() == 2  # when it was made, and when it ended


def test_what_if_explains_a_request(seen: Look) -> None:
    """A pasted request is decided by the policy that serves; what is no JSON is said so; nothing is spent."""
    seen.go("explain")
    seen.page.select_option("#explain-project", "team")
    seen.page.fill("#explain-request", json.dumps({"prompt": "a hero", "quality": "medium"}))
    seen.page.click("button:has-text('Explain')")
    seen.shows("Goes to main/gpt-image-2", "chosen")
    seen.page.fill("#explain-request", "{")
    seen.page.click("button:has-text('Explain')")
    seen.shows("The request is no JSON")


def test_a_policy_that_does_not_check_is_told_with_its_problems(seen: Look, stack: Stack) -> None:
    """What is wrong with the newer policy stands on the page, and the one before is what is loaded."""
    rules = stack.policy / "policy.yaml"
    good = rules.read_text()
    seen.go("policy")
    digest = seen.page.inner_text("[data-figure=digest]")
    try:
        rules.write_text(good + "\nnonsense: 1\n")
        wait_until(lambda: "reload_failed" in _policy_text(seen), 30, "the failed reload")
        seen.go("overview")
        seen.go("policy")
        seen.shows("nonsense", "failed")
        assert seen.page.inner_text("[data-figure=digest]") == digest
    finally:
        rules.write_text(good)
    seen.page.click("button:has-text('Read it again')")
    seen.shows("serves.")


def _policy_text(seen: Look) -> str:
    told = seen.page.evaluate("fetch('/console/api/policy').then(answer => answer.json())")
    return "reload_failed" if any(each["reload_failed"] for each in told["processes"]) else ""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(seen: Look, traffic: Traffic, scheme: str) -> None:
    """axe finds nothing on any page, in either theme, and nothing is wider than the page."""
    seen.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    axe = Axe()
    for name in (*PAGES, f"request?id={traffic.fell_back}"):
        seen.go(name)
        found = axe.run(seen.page)
        assert found.violations_count == 0, f"{name}: {found.generate_report()}"
        assert seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    seen.page.emulate_media(color_scheme="light")


def test_the_theme_can_be_chosen(seen: Look) -> None:
    """The switch overrides the system's theme, and the choice outlasts a reload."""
    seen.page.emulate_media(color_scheme="light")
    seen.go("overview")
    light = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    seen.page.click("#theme")
    seen.page.click("#theme")
    assert seen.page.inner_text("#theme") == "Theme: dark"
    dark = seen.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != light
    seen.page.reload()
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == dark
    seen.page.click("#theme")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == light


def test_it_is_usable_on_a_phone_and_by_keyboard(browser: Browser, stack: Stack, traffic: Traffic) -> None:
    """On 360 pixels no page scrolls sideways; the first tab leads past the menu, and Enter follows a link in it."""
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    phone = look(context, f"http://127.0.0.1:{stack.admin_port}")
    log_in(phone)
    for name in (*PAGES, f"request?id={traffic.fell_back}"):
        phone.go(name)
        assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    phone.page.goto("about:blank")
    phone.go("overview")
    phone.page.keyboard.press("Tab")
    assert phone.page.evaluate("document.activeElement.className") == "skip"
    phone.page.focus("[data-key=nav-routes]")
    phone.page.keyboard.press("Enter")
    phone.page.wait_for_selector("h1:has-text('Routes')")
    context.close()


def test_a_phone_shows_the_longest_names(browser: Browser, sandbox: Sandbox, tmp_path: Path) -> None:
    """A project's name of a hundred letters makes no page scroll sideways."""
    policy = POLICY.replace("  thrifty:", f"  {'a' * 100}:")
    with running_gateway(tmp_path, policy, sandbox) as stack:
        assert stack.post("/v1/images/generations", {"prompt": "x"}, project="a" * 100).status == 200
        context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
        phone = look(context, f"http://127.0.0.1:{stack.admin_port}")
        for name in PAGES:
            phone.go(name)
            if name in {"overview", "spend"}:
                phone.page.wait_for_selector(f".legend li:has-text('{'a' * 100}')")
            assert phone.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
        context.close()


def test_a_page_that_is_none_says_so(seen: Look) -> None:
    """A misspelt address is no overview; from there one link leads to it."""
    seen.go("nope")
    seen.shows("There is no page nope.")
    assert seen.page.title() == "No such page · Image Gateway"
    seen.page.click("main a")
    seen.page.wait_for_selector("h1:has-text('Overview')")


def test_without_scripts_the_login_says_what_is_needed(browser: Browser, stack: Stack) -> None:
    """In place of a form that does nothing there are the paths that have the same figures."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{stack.admin_port}/console")
    assert "needs JavaScript" in page.inner_text("main")
    assert "/admin/spend" in page.inner_text("main")
    context.close()


def test_logging_out_ends_the_session(browser: Browser, stack: Stack) -> None:
    """A wrong token is refused in words; after logging out the cookie opens nothing any more."""
    context = browser.new_context()
    tab = look(context, f"http://127.0.0.1:{stack.admin_port}")
    tab.page.goto(f"{tab.base}/console")
    tab.page.fill("#token", "wrong")
    tab.page.click("button[type=submit]")
    tab.shows("This is not the token")
    log_in(tab)
    [cookie] = context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert tab.page.evaluate("document.cookie") == ""
    tab.page.click("#logout")
    tab.page.wait_for_selector("#token")
    used = fetch(f"{tab.base}/console/api/keys", headers={"cookie": f"{cookie['name']}={cookie['value']}"})
    assert used.status == 401
    context.close()


def test_the_keyboard_keeps_its_place(seen: Look) -> None:
    """The link past the menu leads into the page that is open; what has the focus keeps it when figures come anew."""
    seen.go("spend?by=route")
    seen.page.focus(".skip")
    seen.page.keyboard.press("Enter")
    assert seen.page.evaluate("document.activeElement.id") == "main"
    assert seen.page.evaluate("location.hash") == "#/spend?by=route"
    assert seen.page.inner_text("h1") == "Spend"
    seen.page.click("summary:has-text('As a table')")
    for place in ("summary:has-text('As a table')", "[aria-label='Spend, values']", "[aria-label='Spend by route']"):
        seen.page.focus(place)
        seen.page.evaluate("document.querySelectorAll('main table').forEach(each => { each.dataset.old = 'yes'; })")
        seen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        seen.page.wait_for_function("() => !document.querySelector('main table[data-old]')")
        assert seen.page.evaluate("place => document.activeElement.matches(place)", place.split(":has")[0]), place


def test_a_key_is_found_among_many(seen: Look, stack: Stack) -> None:
    """Any word of a key finds it; without a clipboard the page says how to get at a new one."""
    made = stack.command("keys", "create", "--project", "team", "--name", "needle in the hay")
    assert made.returncode == 0, made.stderr
    seen.go("keys")
    seen.page.fill("#find-key", "needle")
    seen.page.wait_for_function("() => document.querySelectorAll('[aria-label=Keys] tbody tr').length === 1")
    seen.page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    seen.page.fill("#key-name", "by hand")
    seen.page.click("text=Create key")
    seen.page.click("button:has-text('Copy')")
    seen.shows("copy it by hand")


def test_a_new_key_is_for_the_project_that_was_chosen(seen: Look, stack: Stack) -> None:
    """A policy that changes meanwhile changes no choice; where it takes the project away there is none."""
    rules = stack.policy / "policy.yaml"
    good = rules.read_text()

    def offers(name: str, project: str) -> bool:
        seen.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        return project in seen.page.locator(f"#key-{name} option").all_inner_texts()

    def chosen(name: str) -> object:
        return seen.page.eval_on_selector(f"#key-{name}", "select => select.value")

    seen.go("overview")
    seen.go("keys")
    seen.page.select_option("#key-project", "thrifty")
    assert seen.page.locator("#key-job-type option").all_inner_texts() == ["none", "draft"]
    seen.page.select_option("#key-job-type", "draft")
    try:
        rules.write_text(good.replace("  thrifty:\n", "  aaa:\n    job_types: [draft]\n  thrifty:\n"))
        wait_until(lambda: offers("project", "aaa"), 30, "the project that was added")
        assert (chosen("project"), chosen("job-type")) == ("thrifty", "draft")
        rules.write_text(good.replace("  thrifty:\n", "  frugal:\n"))
        wait_until(lambda: offers("project", "frugal"), 30, "the project with another name")
        assert (chosen("project"), chosen("job-type")) == ("", "")
        seen.page.click("text=Create key")
        assert seen.page.locator("#secret").count() == 0
    finally:
        rules.write_text(good)
    wait_until(lambda: offers("project", "thrifty"), 30, "the policy as it was")


def test_a_request_that_was_passed_through_says_what_it_was(seen: Look, stack: Stack) -> None:
    """It asked for no picture: its method is told, and neither size nor number."""
    passed = stack.get("/v1/files", project="passing")
    assert passed.status == 200, passed.body
    made = passed.headers["x-request-id"]
    seen.go("requests")
    line = seen.page.wait_for_selector(f"tr:has(a[data-key={made}])")
    assert line
    assert "0 \N{MULTIPLICATION SIGN}" not in line.inner_text()
    seen.go(f"request?id={made}")
    assert "GET" in seen.text()
    assert "undefined" not in seen.text()


def test_tabs_that_nobody_sees_leave_the_others_their_connections(browser: Browser, stack: Stack) -> None:
    """A browser opens six connections to a host: ten tabs with one in front work, and each goes on once it is seen."""
    hide = "hidden => { Object.defineProperty(document, 'hidden', {configurable: true, get: () => hidden});"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    context = browser.new_context()
    tabs = [look(context, f"http://127.0.0.1:{stack.admin_port}")]
    log_in(tabs[0])
    for _ in range(9):
        tabs[-1].page.evaluate(hide, arg=True)
        tabs.append(Look(context.new_page(), tabs[0].base))
        tabs[-1].go("requests")
    tabs[-1].page.evaluate(hide, arg=True)
    tabs[0].page.evaluate(hide, arg=False)
    tabs[0].go("requests")
    made = stack.post("/v1/images/generations", {"prompt": "seen again", "quality": "low"})
    tabs[0].page.wait_for_selector(f"a[data-key={made.headers['x-request-id']}]")
    context.close()


def test_nothing_went_wrong_and_nobody_else_was_asked(seen: Look) -> None:
    """In all that was done above the browser met no error and no broken rule, and asked no other host."""
    assert [text for text in seen.said if "400 (Bad Request)" not in text] == []
    assert seen.hosts == {seen.base.removeprefix("http://")}
