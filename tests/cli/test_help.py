"""Every command tells what it does, what each option means, and how it is typed."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from gateway.cli.main import main
from tests.cli.command import commands, within

COMMANDS = dict(commands())


def examples(name: str) -> list[list[str]]:
    """The words of each example in a command's help that is of this command."""
    lines = within(*name.split(), "--help").stdout.splitlines()
    typed = re.findall(rf"image-gateway {name}\b.*", "\n".join(lines[1:]))
    return [shlex.split(re.split(r' > |<<<|\)"', line)[0])[1 + len(name.split()) :] for line in typed]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_words_for_everything(name: str) -> None:
    """The first line is a sentence, and each option says something."""
    command = COMMANDS[name]

    assert (command.help or "").partition("\n\n")[0].strip().endswith((".", ":"))
    assert [each.opts[0] for each in command.params if isinstance(each, click.Option) and not each.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_examples_are_of_this_command(name: str) -> None:
    """Help ends with an example of the command, with options that it has, and with arguments where it needs them."""
    command = COMMANDS[name]
    known = {option for each in command.params for option in each.opts}
    needed = {each.opts[0] for each in command.params if isinstance(each, click.Option) and each.required}
    arguments = sum(isinstance(each, click.Argument) for each in command.params)
    found = examples(name)

    assert found
    for words in found:
        options = {word for word in words if word.startswith("--")}
        assert options <= known
        assert needed <= options
        assert len(words) >= arguments


def test_the_table_of_statuses_is_in_the_help() -> None:
    """The program's own help tells what each exit status means."""
    assert re.findall(r"\b(\d+)\b", (main.help or "").partition("Exit status")[2]) == ["0", "1", "2", "130", "143"]
