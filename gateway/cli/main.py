"""The `image-gateway` command and its subcommands."""

from __future__ import annotations

import click

from gateway import __version__
from gateway.cli.commands import Commands
from gateway.cli.program import Program

_PLACES = {
    "serve": "gateway.cli.serve:serve",
    "demo": "gateway.cli.demo:demo",
    "sandbox": "gateway.cli.sandbox:sandbox",
    "check": "gateway.cli.check:check",
    "explain": "gateway.cli.explain:explain",
    "keys": "gateway.cli.keys:keys",
    "callbacks": "gateway.cli.callbacks:callbacks",
    "spend": "gateway.cli.spend:spend",
    "reconcile": "gateway.cli.reconcile:reconcile",
    "replay": "gateway.cli.replay:replay_command",
    "ledger": "gateway.cli.ledger:ledger",
    "completion": "gateway.cli.completion:completion",
}


@click.group(
    cls=Program,
    commands=Commands(_PLACES),
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "auto_envvar_prefix": "IMAGE_GATEWAY",  # for options that name no variable of their own
    },
)
@click.version_option(__version__, prog_name="image-gateway", allow_from_autoenv=False)
def main() -> None:
    """Route image requests to the right model at the right price, and never overspend.

    Exit status: 0 done, 1 it could not be done, 2 wrong arguments, 130 and 143 stopped by Ctrl-C or SIGTERM.
    """
