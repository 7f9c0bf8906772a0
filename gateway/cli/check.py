"""`image-gateway check`: say all that is wrong with a policy, in one run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from gateway.cli.options import example, json_option, wants_json
from gateway.config.load import Loaded, check_policy
from gateway.config.policy_test_run import PolicyTestRun, run_policy_tests
from gateway.process.today import today


@click.command(short_help="Validate a policy, and run its tests.", epilog=example("check policy/"))
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@json_option
def check(directory: Path) -> None:
    """Validate the policy in DIRECTORY as `serve` would.

    Every problem is one line, `file:line: key: what is wrong`; exit status 1 if there is any. Secrets that this
    machine does not have are warnings. Then the tests in DIRECTORY/tests are run, and each that fails is a line too.
    """
    found = check_policy(directory, os.environ, today())
    if wants_json():
        raise SystemExit(_tell(directory, found))
    for problem in found.problems:
        click.echo(str(problem))
    for warning in found.warnings:
        click.echo(f"{warning} (warning)")
    if found.policy is None:
        count = len(found.problems)
        click.echo(f"{count} problem{'s' if count != 1 else ''} found.", err=True)
        raise SystemExit(1)
    rules, run = found.policy, run_policy_tests(directory, found.policy, today())
    for failure in run.failures:
        click.echo(str(failure))
    if run.failures:
        count = len(run.failures)
        click.echo(f"{count} problem{'s' if count != 1 else ''} found; tests: {_counted(run)}", err=True)
        raise SystemExit(1)
    click.echo(
        f"ok: {len(rules.projects)} projects, {len(rules.job_types)} job types, {len(rules.routes)} routes, "
        f"{len(rules.providers)} providers, {len(rules.models)} models (digest {rules.digest})"
        + (f"; tests: {_counted(run)}" if run.passed else "")
    )


def _tell(directory: Path, found: Loaded) -> int:
    """Print all that was found as JSON; returns the exit status."""
    run = run_policy_tests(directory, found.policy, today()) if found.policy else None
    well = run is not None and not run.failures
    told = {
        "ok": well,
        "digest": found.policy.digest if found.policy else None,
        "problems": [str(problem) for problem in found.problems],
        "warnings": [str(warning) for warning in found.warnings],
        "tests": {"passed": run.passed, "failures": [str(failure) for failure in run.failures]} if run else None,
    }
    click.echo(json.dumps(told, indent=2))
    return 0 if well else 1


def _counted(run: PolicyTestRun) -> str:
    return f"{run.passed} passed, {run.failed} failed"
