"""The documents say what the code does: commands, options, headers, errors, links, and a first policy that works."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from gateway.cli.main import main
from gateway.domain.errors import GatewayError
from gateway.images.answer_cache import CACHE
from gateway.ledger.embedded import embedded_store
from gateway.providers.collected import MISSING, NOT_STORED, OUTPUT_FORMAT
from gateway.steps.accept import HEEDED
from gateway.steps.write import COST
from gateway.web.errors import answer_for
from tests.layout_rules import LAYERS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md"), *ROOT.glob("benchmarks/*.md")]
)
SHARED = {"--store", "--data", "--realm"}
UNSEEN = {"client_gone", "task_cancelled", "task_not_here"}
"""Codes that no client can ever read."""


def text(name: str) -> str:
    """A document's text."""
    return (ROOT / name).read_text(encoding="utf-8")


def section(document: str, heading: str) -> str:
    """What stands under a heading, up to the next one of its rank."""
    rank = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^{rank} |\Z)", document, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def rows(table: str) -> list[list[str]]:
    """The cells of every table row, heads and rules left out."""
    lines = [line for line in table.splitlines() if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line)]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def first_words(table: str) -> set[str]:
    """The code words in the first column of a table."""
    return {word for row in rows(table) for word in re.findall(r"`([^`]+)`", row[0])}


@functools.cache
def modules() -> tuple[ast.Module, ...]:
    """Every module of the gateway but the simulated providers', parsed."""
    paths = sorted((ROOT / "gateway").rglob("*.py"))
    return tuple(ast.parse(path.read_text()) for path in paths if "sandbox" not in path.parts)


def commands(command: click.Command, path: tuple[str, ...] = ("image-gateway",)) -> Iterator[tuple[str, click.Command]]:
    """Every command that does something, with its full name and arguments."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, (*path, name))
        return
    arguments = [(param.name or "").upper() for param in command.params if isinstance(param, click.Argument)]
    yield " ".join([*path, *arguments]), command


COMMANDS = dict(commands(main))


def test_every_command_has_its_section() -> None:
    """The reference has each command, with its arguments, and no other."""
    assert set(re.findall(r"^## (.+)$", text("docs/cli.md"), re.MULTILINE)) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    """Each command's table has exactly its options, each with its variable and its default."""
    said = section(text("docs/cli.md"), f"## {name}")
    options = {param.opts[0]: param for param in COMMANDS[name].params if isinstance(param, click.Option)}
    context = click.Context(COMMANDS[name], info_name=name)
    table = {row[0].strip("`"): row for row in rows(said) if row[0].startswith("`--")}
    prefix = "IMAGE_GATEWAY_" + "_".join(word.upper() for word in name.split()[1:] if word.islower())

    assert set(table) == set(options) - SHARED
    assert ("Takes `--store`, `--data`, `--realm`." in said) == bool(options.keys() & SHARED)
    for option, param in options.items():
        if option in SHARED:
            continue
        _, variable, default, _ = table[option]
        assert variable.strip("`") == (param.envvar or f"{prefix}_{str(param.name).upper()}")
        if not param.required and (value := param.get_default(context)):
            assert default == f"`{value}`"


def test_a_variable_without_a_name_of_its_own_works(tmp_path: Path) -> None:
    """Options that name no variable take the one that the reference says."""
    environ = {**os.environ, "IMAGE_GATEWAY_SPEND_FORMAT": "csv", "IMAGE_GATEWAY_SPEND_BY": "day"}
    command = [sys.executable, "-m", "gateway", "spend", "--data", str(tmp_path)]
    with embedded_store(tmp_path):
        pass
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.startswith("day,requests,")


def errors() -> list[type[GatewayError]]:
    """Every class of error that an endpoint can answer with."""
    found: list[type[GatewayError]] = []
    left = [GatewayError]
    while left:
        inner = left.pop().__subclasses__()
        found += inner
        left += inner
    return [each for each in found if each.__module__.startswith("gateway.")]


def named(value: ast.expr) -> str | None:
    """Return the text of a literal, or of a constant that some module defines by that name."""
    if isinstance(value, ast.Constant):
        return str(value.value)
    constants = (
        node.value.value
        for module in modules()
        for node in module.body
        if isinstance(value, ast.Name)
        and isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Constant)
        and ast.unparse(node.targets[0]) == value.id
    )
    return next(map(str, constants), None)


def test_every_error_is_documented() -> None:
    """The table has each class's status, type and code, every other code that is used anywhere, and nothing else."""
    table = {
        (row[0], *(cell.strip("`") for cell in row[1:3]))
        for row in rows(section(text("docs/http-api.md"), "## Errors"))[1:]
    }
    classes = {(str(each.status), each.type, each.default_code) for each in errors()}
    by_class = {each.__name__: each for each in errors()}
    raised: set[tuple[str, str, str]] = set()
    for module in modules():
        for call in (node for node in ast.walk(module) if isinstance(node, ast.Call)):
            kind = by_class.get(getattr(call.func, "id", ""))
            for keyword in call.keywords if kind else []:
                if kind and keyword.arg == "code" and (code := named(keyword.value)):
                    raised.add((str(kind.status), kind.type, code))

    assert table == {row for row in classes | raised if row[2] not in UNSEEN}


def test_every_request_header_is_documented() -> None:
    """The table has exactly the headers that the steps read."""
    asked = set(HEEDED)
    for path in sorted((ROOT / "gateway" / "steps").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("headers.get"):
                asked.add(str(named(call.args[0])))

    assert {name.lower() for name in first_words(section(text("docs/http-api.md"), "## Request headers"))} == asked


def test_every_response_header_is_documented() -> None:
    """The table has exactly the headers that the gateway adds to answers and to errors."""
    written = {
        str(pair.elts[0].value).lower()
        for pair in ast.walk(ast.parse((ROOT / "gateway/steps/write.py").read_text()))
        if isinstance(pair, ast.Tuple) and len(pair.elts) == 2 and isinstance(pair.elts[0], ast.Constant)
    } | {COST.lower()}
    of_errors: set[str] = set()
    for status in {each.status for each in errors()}:
        made = GatewayError("", retry_after=1, should_retry=False)
        made.status = status
        of_errors |= {name for name, _ in answer_for(made, "req_x").headers}
    added = written | of_errors | {"allow", *(name.lower() for name in (MISSING, NOT_STORED, OUTPUT_FORMAT, CACHE))}

    documented = {name.lower() for name in first_words(section(text("docs/http-api.md"), "## Response headers"))}
    assert documented == added - {"content-type", "content-length"}


def test_every_endpoint_is_documented() -> None:
    """Every path that is served under /v1, and the health checks, stand in the table; what stands there is served."""
    said = section(text("docs/http-api.md"), "## Endpoints")
    documented = set(re.findall(r"(?:GET|POST) (/[^`?\s]+)", said))
    served = set()
    for constant in ast.walk(ast.parse((ROOT / "gateway/web/app.py").read_text())):
        if isinstance(constant, ast.Call) and getattr(constant.func, "id", "") in ("_get", "_post", "_get_or_delete"):
            path = ast.unparse(constant.args[0]).strip("f'\"")
            served.add(path.replace("{prefix}", "/v1").replace("{{", "{").replace("}}", "}").replace(":path", ""))

    deployments = {path for path in documented if path.startswith("/openai")}
    assert documented - deployments == {path for path in served if not path.startswith("{deployment}")}
    assert deployments == {"/openai/deployments/{name}/images/generations"}


def checked(policy: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `image-gateway check`, with the secrets that the README's policies name."""
    command = [sys.executable, "-m", "gateway", "check", str(policy)]
    names = ("OPENAI_API_KEY", "EVOLINK_API_KEY", "AZURE_API_KEY")
    environ = {**os.environ, **dict.fromkeys(names, "sk-test")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_the_first_policy_of_the_readme_checks(tmp_path: Path) -> None:
    """The policy that the README gives is accepted by `image-gateway check` without a problem or a warning."""
    (policy,) = re.findall(r"```yaml\n(.*?)```", section(text("README.md"), "## A first policy"), re.DOTALL)
    (tmp_path / "first.yaml").write_text(policy)
    code, out, err = checked(tmp_path)

    assert (code, err) == (0, "")
    assert out.startswith("ok: 1 projects, 2 job types, 2 routes")
    assert len(out.splitlines()) == 1


def test_the_other_providers_of_the_readme_check(tmp_path: Path) -> None:
    """What the README shows of other providers can stand beside its first policy."""
    blocks = re.findall(r"```yaml\n(.*?)```", text("README.md"), re.DOTALL)
    for number, block in enumerate(blocks):
        (tmp_path / f"{number}.yaml").write_text(block)
    code, out, _ = checked(tmp_path)

    assert len(blocks) > 1
    assert code == 0, out
    assert "4 routes, 3 providers" in out


def test_commands_in_the_readme_exist() -> None:
    """Every `image-gateway …` and `make …` that the README types is there, with the options it gives."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text("README.md"), re.DOTALL))
    typed = re.findall(r"image-gateway ([a-z]+(?: [a-z]+)?)(.*)", blocks + text("README.md"))
    known = {name.partition(" ")[2]: command for name, command in COMMANDS.items()}
    targets = set(re.findall(r"^make ([a-z-]+)", blocks, re.MULTILINE))

    assert typed
    for words, rest in typed:
        name = next((each for each in known if each.startswith(words) or words.startswith(each.split(" ")[0])), None)
        assert name is not None, words
        options = {option for param in known[name].params for option in param.opts}
        assert set(re.findall(r"--[a-z-]+", rest.partition("#")[0].partition("`")[0])) <= options
    assert targets
    assert targets <= set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every relative link of every document names a file that is there."""
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    broken = [link for link in links if "://" not in link and not (document.parent / link).exists()]

    assert broken == []


def test_every_document_is_in_the_index() -> None:
    """The index of the documents misses none."""
    linked = set(re.findall(r"\]\(([^)]+)\)", text("docs/README.md")))

    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"} <= linked


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_the_layers_are_told_as_they_are(document: str) -> None:
    """Both pictures of the layers have the lines that the rules hold, in their order."""
    picture = re.search(r"^```(?:text)?\n(__main__ .*?)^```", text(document), re.MULTILINE | re.DOTALL)
    assert picture is not None

    assert [set(line.split()[0].split("|")) for line in picture[1].splitlines()] == list(LAYERS)
