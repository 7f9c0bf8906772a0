"""`image-gateway completion`: what a shell needs to complete commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

NAME = "image-gateway"
VARIABLE = "_IMAGE_GATEWAY_COMPLETE"
"""Set by the shell when it asks; click's own name for it."""


HOW = """\b
Examples:
  eval "$(image-gateway completion bash)"    # in ~/.bashrc
  eval "$(image-gateway completion zsh)"     # in ~/.zshrc, after compinit
  image-gateway completion fish > ~/.config/fish/completions/image-gateway.fish"""


@click.command(short_help="Print a script for Tab completion in a shell.", epilog=HOW)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for SHELL that completes commands, options and their values on Tab."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(context.find_root().command, {}, NAME, VARIABLE).source())
