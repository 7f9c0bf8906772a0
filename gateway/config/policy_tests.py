"""Reading policy tests: every file in the folder `tests` beside a policy, with every mistake and its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.config.documents import Kind, Node, Table, Value
from gateway.config.fields import Fields, as_items, as_table
from gateway.config.lookup import Known
from gateway.config.policy_test_cases import (
    BUDGET_USED,
    ERRORS,
    EXPECT,
    FILE,
    HEADERS,
    REQUEST,
    TEST,
    Case,
    Cases,
    Expected,
    Used,
)
from gateway.config.problems import Place, Report, did_you_mean, shown
from gateway.config.routes import of_models
from gateway.config.sources import policy_files, read_document, read_file
from gateway.config.values import (
    Reader,
    day,
    described,
    key_id,
    listed,
    micro_usd,
    name,
    one_of,
    one_or_listed,
    percent,
    text,
    truth,
    usd,
    whole,
)
from gateway.domain.budget import View, Window
from gateway.domain.job import OF_MODELS, Operation
from gateway.domain.policy import JobType, Policy
from gateway.domain.route import Route
from gateway.routing.dry_run import PAPER_KEY, Sketch

FOLDER = "tests"
_STATUSES = tuple(dict.fromkeys(map(str, ERRORS.values())))
PROMPT = "A lighthouse at dusk."
"""What a test asks for that does not say."""


def read_policy_tests(directory: Path, policy: Policy) -> Cases:
    """Read every test of a policy directory; none where it has no folder `tests`."""
    report, cases, names, mistaken = Report(), [], dict[str, Place](), 0
    root = directory / FOLDER

    def unreadable(error: OSError) -> None:
        report.problem(Place(str(error.filename), 1, ""), f"cannot be read: {error.strerror}")

    for path in policy_files(root, unreadable) if root.is_dir() else ():
        data = read_file(path, report)
        document = read_document(data, str(path), report, section="tests") if data is not None else None
        if document is None:
            continue
        for called, node, place in _tests(document, report):
            before = len(report.problems)
            if not called:
                report.problem(node.place, "name is missing")
            elif called in names:
                first = names[called]
                report.problem(place, f"this name was already given at {first.file}:{first.line}")
            names.setdefault(called, place)
            case = _case(node, place, policy, report)
            if len(report.problems) == before:
                cases.append(case)
            else:
                mistaken += 1
    return Cases(tuple(cases), tuple(sorted(set(report.problems))), mistaken)


def _tests(document: Table, report: Report) -> Iterator[tuple[str, Node, Place]]:
    """The tests of a file, a list of them or a map by name, with their names (empty if missing) and places."""
    node = Fields(document, FILE, report).node("tests")
    if isinstance(node, Table):
        for called, each in node.nodes.items():
            yield called, each, Place(node.keys[called].file, node.keys[called].line, f"tests.{called}")
        return
    for number, each in enumerate(as_items(node, report) if node is not None else ()):
        found = each.nodes.get("name") if isinstance(each, Table) else None
        called = found.text if isinstance(found, Value) else ""
        yield called, each, Place(each.place.file, each.place.line, f"tests.{called or number}")


def _case(node: Node, place: Place, policy: Policy, report: Report) -> Case:
    fields = Fields(node, TEST, report, place)
    fields.read("name", text)
    meant = of_models(policy.models.values(), policy.routes.values())
    routes = Known("route", policy.routes, complete=True, of_models=meant)
    job_types = Known("job type", policy.job_types, complete=True)
    project = fields.required("project", name) or ""
    if project and project not in policy.projects:
        hint = did_you_mean(project, policy.projects)
        report.problem(fields.at("project"), f"unknown project {shown(project)}{hint}")
    key_job_type = fields.read("key_job_type", job_types.checked)
    sketch = _sketch(fields, project, fields.read("key", key_id) or PAPER_KEY, key_job_type, report)
    full = fields.read("full", listed(routes.checked)) or ()
    return Case(
        place=place,
        sketch=sketch,
        expected=_expected(fields, routes.checked, job_types.checked, report),
        used=tuple(used for each in fields.items("budget_used") if (used := _used(each, routes, job_types, report))),
        full=full,
        date=fields.read("date", day),
    )


def _sketch(owner: Fields, project: str, key: str, key_job_type: str | None, report: Report) -> Sketch:
    fields = owner.within("request", REQUEST) or Fields(Table(owner.place, {}, {}), REQUEST, report)
    own = ("operation", "headers", "images", "mask")
    body: dict[str, object] = {"prompt": PROMPT}
    for each in REQUEST.known:
        node = fields.node(each)
        if node is not None and each not in own:
            body[each] = _plain(node, report)
    operation = Operation(fields.read("operation", one_of(OF_MODELS)) or Operation.GENERATE)
    images = fields.read("images", whole(0, 100)) or 0
    mask = fields.read("mask", truth) or False
    if operation is Operation.EDIT and fields.node("images") is None:
        images = 1
    if mask and not images:
        report.problem(fields.at("mask"), "a mask is of an image, and there is none: say images: 1, or operation: edit")
    headers = {name.lower(): value for name, value in _headers(fields, report)}
    return Sketch(project, body, headers, operation, images, mask, key, key_job_type)


def _plain(node: Node, report: Report) -> object:
    """A body field as JSON would have it: text, whole number or truth; what YAML reads otherwise is text."""
    if not isinstance(node, Value):
        report.problem(node.place, f"must be a plain value, not {described(node)}")
        return None
    if node.kind is Kind.BOOL and node.text in ("true", "false"):
        return node.text == "true"
    digits = node.text.removeprefix("-")
    return int(node.text) if node.kind is Kind.INT and digits.isdecimal() and digits.isascii() else node.text


def _headers(owner: Fields, report: Report) -> Iterator[tuple[str, str]]:
    node = owner.node("headers")
    table = as_table(node, report) if node is not None else None
    known = {header.lower() for header in HEADERS}
    for header, value in table.nodes.items() if table else ():
        place = table.keys[header] if table else value.place
        if header.lower() not in known:
            report.problem(place, f"unknown header{did_you_mean(header, HEADERS)}")
        elif not isinstance(value, Value):
            report.problem(place, f"must be a plain value, not {described(value)}")
        else:
            yield header, value.text


def _used(node: Node, routes: Known[Route], job_types: Known[JobType], report: Report) -> Used | None:
    fields = Fields(node, BUDGET_USED, report)
    window = fields.required("window", one_of(Window))
    amount = fields.node("used")
    is_usd = isinstance(amount, Value) and amount.kind is Kind.QUOTED and not amount.text.endswith("%")
    used = fields.required("used", micro_usd if is_usd else _share)
    view = fields.read("view", one_of(View))
    if window is None or used is None:
        return None
    return Used(
        window=Window(window),
        share=None if is_usd else used,
        amount=used if is_usd else None,
        common=fields.read("common", truth),
        job_type=fields.read("job_type", job_types.checked),
        key=fields.read("key", key_id),
        route=fields.read("route", routes.checked),
        view=View(view) if view else None,
    )


def _share(node: Node, report: Report) -> int | None:
    if isinstance(node, Value) and node.kind in {Kind.INT, Kind.FLOAT}:
        report.problem(node.place, f'must be a percentage, as {node.text}%, or USD in quotes, as "{node.text}"')
        return None
    return percent(node, report)


def _expected(owner: Fields, route: Reader[str], job_type: Reader[str], report: Report) -> Expected:
    fields = owner.within("expect", EXPECT)
    if fields is None:
        report.problem(owner.place, "expect is missing: what is to come of the request")
        return Expected()
    node = owner.node("expect")
    if isinstance(node, Table) and not node.nodes:
        report.problem(
            node.place, "is empty, so anything would pass: say what is to come of it, by route, cost, error …"
        )
    degraded = _words(fields, "degraded", report)
    return Expected(
        job_type=fields.read("job_type", job_type),
        route=fields.read("route", one_or_listed(route)),
        model=fields.read("model", text),
        quality=fields.read("quality", text),
        size=fields.read("size", text),
        n=fields.read("n", whole(1, 100)),
        degraded=None if fields.node("degraded") is None else degraded,
        replaced=fields.read("replaced", text),
        cost=fields.read("cost", usd),
        error=fields.read("error", _code_or_status),
        refused=_words(fields, "refused", report),
        places={key: fields.at(key) for key in EXPECT.known},
    )


def _words(owner: Fields, key: str, report: Report) -> dict[str, str]:
    """A map of plain values with free keys."""
    found: dict[str, str] = {}
    for called, node in owner.entries(key):
        if isinstance(node, Value):
            found[called] = node.text
        else:
            report.problem(node.place, f"must be a plain value, not {described(node)}")
    return found


def _code_or_status(node: Node, report: Report) -> str | None:
    found = node.text if isinstance(node, Value) and node.kind is Kind.INT else text(node, report)
    if found is None or found in ERRORS or found in _STATUSES:
        return found
    if found.isdecimal():
        report.problem(node.place, f"no request is refused with status {shown(found)}; it is {', '.join(_STATUSES)}")
    else:
        near = did_you_mean(found, ERRORS) or f"; known are {', '.join(ERRORS)}"
        report.problem(node.place, f"unknown error code {shown(found)}{near}")
    return None
