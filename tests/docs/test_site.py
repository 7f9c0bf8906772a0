"""The site builds without a warning, its links lead somewhere, its search finds, and it asks nothing of other hosts."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Locator, sync_playwright
from playwright.sync_api import TimeoutError as NotYet

from tests.docs.blocks import DOCS, ROOT, pages

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
PATIENCE = 30_000
"""Milliseconds."""
TYPINGS = 10
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""Elements for which a browser asks a host by itself, and where each names it."""


class Page(HTMLParser):
    """What a built page has: ids, links, and what it loads."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        named = {name: value or "" for name, value in attrs}
        self.ids |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        if tag in LOADING and LOADING[tag] in named:
            self.loads.append(named[LOADING[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    """Every page of the site."""
    return {file: Page(file) for file in sorted(site.rglob("*.html"))}


def test_every_page_is_on_the_site(site: Path, built: dict[Path, Page]) -> None:
    """Each document has a page, and those from outside the folder have theirs."""
    wanted = {page.relative_to(DOCS).with_suffix(".html") for page in pages()}
    wanted = {Path("index.html") if path == Path("README.html") else path for path in wanted}
    there = {file.relative_to(site) for file in built}

    assert wanted <= there
    assert {Path("benchmarks/index.html"), Path("deploy/index.html"), Path("CHANGELOG.html")} <= there


def test_links_of_the_site(site: Path, built: dict[Path, Page]) -> None:
    """Every link between pages leads to a page that is there, and every anchor to an element of it."""
    broken = []
    for file, page in built.items():
        for link in page.links:
            name, _, anchor = link.partition("#")
            if re.match(r"[a-z]+:", name) or file.name == "404.html":
                continue
            target = (file.parent / name).resolve() if name else file
            if target.is_dir():
                target /= "index.html"
            there = target.is_relative_to(site) and target.exists()
            if not there or (anchor and target in built and anchor not in built[target].ids):
                broken.append(f"{file.relative_to(site)}: {link}")

    assert broken == []


def test_the_site_loads_nothing_from_elsewhere(built: dict[Path, Page], site: Path) -> None:
    """No page and no style names another host for anything that a browser loads by itself."""
    loads = [load for page in built.values() for load in page.loads]
    styles = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))

    assert loads
    assert [load for load in loads if re.match(r"(?:[a-z]+:)?//", load)] == []
    assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)'\"]+", styles) == []


def slug(heading: str) -> str:
    """The anchor that code hosts give a heading: words and hyphens in lower case."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


@functools.cache
def anchors(page: Path) -> set[str]:
    """The anchors of a document's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_links_between_documents(page: Path) -> None:
    """Read as files, documents link to files that are there and to headings that they have."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    broken = []
    for name, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if "://" in name:
            continue
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(f"{name}#{anchor}")

    assert broken == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and logs nothing."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """The site, served."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def search(box: Locator, found: Locator, words: str) -> None:
    """Type until the result is there: the page hears no key that comes before its script does."""
    for _ in range(TYPINGS):
        box.fill("", timeout=PATIENCE)
        box.press_sequentially(words, timeout=PATIENCE)
        try:
            found.wait_for(state="attached", timeout=PATIENCE / TYPINGS)
        except NotYet:
            continue
        return
    found.wait_for(state="attached", timeout=PATIENCE)


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("served", [True, False], ids=["served", "from a folder"])
def test_search_finds(address: str, site: Path, *, served: bool) -> None:
    """In a real browser the search leads to the page on unknown outcomes, and no other host is asked."""
    base = address if served else site.as_uri()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{base}/tutorial.html", timeout=PATIENCE)
        found = page.locator(".md-search-result__link[href*='unknown-outcomes']").first
        search(page.locator(".md-search__input").first, found, "unconfirmed worst case")
        browser.close()

    assert asked
    assert [url for url in asked if not url.startswith((base, "data:", "blob:"))] == []
