"""The package keeps the rules of its layout, and each rule is proved by a tree that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.layout_rules import (
    RULES,
    Rule,
    broad_excepts,
    cycles,
    direction,
    docstrings,
    homes,
    imports_at_the_top,
    relative_imports,
    sizes,
    step_order,
    vendors,
)

ROOT = Path(__file__).parents[1]

BROKEN: dict[str, tuple[Rule, dict[str, str]]] = {
    "a step imports an adapter": (
        direction,
        {"steps/send.py": "from gateway.providers import x", "providers/x.py": ""},
    ),
    "an adapter imports another": (direction, {"web/a.py": "import gateway.ledger.b", "ledger/b.py": ""}),
    "a step imports a step": (direction, {"steps/a.py": "from gateway.steps.b import f", "steps/b.py": ""}),
    "the domain looks up": (direction, {"domain/a.py": "from gateway import ports", "ports.py": ""}),
    "a new area": (direction, {"helpers/a.py": ""}),
    "a relative import": (relative_imports, {"domain/a.py": "from . import b", "domain/b.py": ""}),
    "a cycle": (cycles, {"domain/a.py": "import gateway.domain.b", "domain/b.py": "from gateway.domain.a import f"}),
    "a cycle of three": (
        cycles,
        {"a.py": "import gateway.b", "b.py": "import gateway.c", "c.py": "def f():\n    import gateway.a"},
    ),
    "a library abroad": (homes, {"web/a.py": "from redis import asyncio"}),
    "a library without a home": (homes, {"web/a.py": "import requests"}),
    "a library in the domain": (homes, {"domain/a.py": "import yaml"}),
    "a hidden import": (imports_at_the_top, {"web/a.py": "async def f():\n    import json"}),
    "a long module": (sizes, {"web/a.py": "x = 1\n" * 300}),
    "a long function": (sizes, {"web/a.py": "def f():\n" + "    x = 1\n" * 49}),
    "a long script": (sizes, {"ledger/scripts/a.lua": "return 1\n" * 80}),
    "a module without a docstring": (docstrings, {"web/a.py": "x = 1"}),
    "a function without one": (docstrings, {"web/a.py": '"""A."""\ndef f(): ...'}),
    "a method without one": (docstrings, {"web/a.py": '"""A."""\nclass C:\n    """C."""\n    def f(self): ...'}),
    "a bare except": (broad_excepts, {"web/a.py": "def f():\n    try: g()\n    except: pass"}),
    "a broad except in a tuple": (
        broad_excepts,
        {"web/a.py": "def f():\n    try: g()\n    except (KeyError, Exception): log()"},
    ),
    "a vendor in a string": (vendors, {"web/a.py": 'x = "https://api.openai.com"'}),
    "a vendor in a name": (vendors, {"steps/a.py": "def ask_gemini(): ..."}),
    "a vendor in an argument": (vendors, {"steps/a.py": "f(azure_key=1)"}),
    "steps out of order": (step_order, {"steps/a.py": "", "steps/b.py": "", "lifecycle.py": "b() then a()"}),
    "a step nobody calls": (step_order, {"steps/a.py": "", "lifecycle.py": "nothing"}),
}

SOUND = {
    "steps/accept.py": '"""OpenAI\'s envelope."""\nfrom gateway.ports import x',
    "ports.py": '"""Contracts."""',
    "lifecycle.py": '"""accept."""\nfrom gateway.steps import accept\nfrom gateway.request.relay import y',
    "request/relay.py": '"""Hands an answer over."""\ndef _f():\n    try: g()\n    except BaseException: raise',
}


def write(tree: dict[str, str], at: Path) -> Path:
    """Write a tree of files as a package of its own and return its folder."""
    for name, text in tree.items():
        path = at / "gateway" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return at / "gateway"


@pytest.mark.parametrize("rule", RULES, ids=[rule.__name__ for rule in RULES])
def test_the_package_keeps_the_rule(rule: Rule) -> None:
    """Nothing in `gateway/` breaks the rule."""
    assert list(rule(ROOT / "gateway")) == []


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_tree_is_caught(case: str, tmp_path: Path) -> None:
    """The rule finds what it is there to find."""
    rule, tree = BROKEN[case]

    assert list(rule(write(tree, tmp_path))) != []


def test_a_sound_tree_passes_every_rule(tmp_path: Path) -> None:
    """A small tree that keeps the rules is found fault with by none of them."""
    package = write(SOUND, tmp_path)

    assert [problem for rule in RULES for problem in rule(package)] == []
