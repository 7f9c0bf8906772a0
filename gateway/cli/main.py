"""The `image-gateway` command and its subcommands."""

from __future__ import annotations

import click

from gateway import __version__
from gateway.cli.callbacks import callbacks
from gateway.cli.check import check
from gateway.cli.demo import demo
from gateway.cli.explain import explain
from gateway.cli.keys import keys
from gateway.cli.ledger import ledger
from gateway.cli.reconcile import reconcile
from gateway.cli.replay import replay_command
from gateway.cli.sandbox import sandbox
from gateway.cli.serve import serve
from gateway.cli.spend import spend


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "auto_envvar_prefix": "IMAGE_GATEWAY",  # for options that name no variable of their own
    }
)
@click.version_option(__version__, prog_name="image-gateway")
def main() -> None:
    """Route image requests to the right model at the right price, and never overspend.

    Exit status: 0 done, 1 it could not be done, 2 wrong arguments.
    """


for command in (serve, demo, sandbox, check, explain, keys, callbacks, spend, reconcile, replay_command, ledger):
    main.add_command(command)
