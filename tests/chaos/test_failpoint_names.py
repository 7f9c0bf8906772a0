"""Failpoints themselves: what the variable may say, that they are off, and that every one of them stands somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import failpoint
from gateway.failpoint import NAMES, VARIABLE, Action, Failpoint, FailpointReached, parse, reach

PACKAGE = Path(failpoint.__file__).parent


def test_every_name_stands_exactly_where_it_says() -> None:
    """Each failpoint is reached by some line of the gateway, and no line reaches one that is not listed."""
    reached = {
        name for path in PACKAGE.rglob("*.py") for name in re.findall(r"\breach\(\s*[\"'](\w+)[\"']", path.read_text())
    }
    assert reached == NAMES.keys()


def test_off_unless_asked_for() -> None:
    """Without the variable nothing happens at any of them."""
    for name in NAMES:
        reach(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("received:kill", Failpoint("received", Action.KILL)),
        ("after_hold:freeze:3", Failpoint("after_hold", Action.FREEZE, nth=3)),
        ("before_settle:raise:0.25", Failpoint("before_settle", Action.RAISE, probability=0.25)),
        ("before_settle:raise:0.0", Failpoint("before_settle", Action.RAISE, probability=0.0)),
    ],
)
def test_what_may_be_said(text: str, expected: Failpoint) -> None:
    """A name, an action, and either the nth time or a probability."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("recieved:kill", "'recieved' is no failpoint; one of received"),
        ("received", "'' is no action; one of kill, freeze, raise"),
        ("received:explode", "'explode' is no action"),
        ("received:kill:", "'' is neither"),
        ("received:kill:0", "'0' is neither"),
        ("received:kill:-1", "'-1' is neither"),
        ("received:kill:1.5", "'1.5' is neither"),
        ("received:kill:x.y", "'x.y' is neither"),
        ("received:kill:nan", "'nan' is neither"),
    ],
)
def test_what_may_not_be_said(text: str, complaint: str) -> None:
    """Anything else is refused in words that say what would do."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(text)


def test_strikes_when_it_is_time() -> None:
    """The third time and only then; never and always."""
    third = parse("received:raise:3")
    third.strike()
    third.strike()
    with pytest.raises(FailpointReached, match="received"):
        third.strike()
    third.strike()
    parse("received:raise:0.0").strike()
    with pytest.raises(FailpointReached):
        parse("received:raise").strike()


def test_a_mistake_ends_the_process_at_its_start() -> None:
    """A name that is wrong is told in one line, before anything is served."""
    done = _run("received:nothing", "import gateway.failpoint")
    assert done.returncode == 1
    assert done.stderr.startswith(f"image-gateway: {VARIABLE}: 'nothing' is no action")
    assert done.stderr.count("\n") == 1


def test_kills_and_says_beforehand_that_it_will() -> None:
    """An armed process warns at its start, and is gone without a word at the place."""
    done = _run("received:kill", "from gateway.failpoint import reach; reach('received'); print('alive')")
    assert done.returncode == -9
    assert "failpoint armed: received:kill" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("armed", ["after_hold:freeze", ""])
def test_whoever_passes_often_knows_whether_anything_is_armed(armed: str) -> None:
    """Places that each request passes are reached only where it says so, which it does whatever place is meant."""
    done = _run(armed, "from gateway.failpoint import ARMED; print(ARMED)")
    assert done.stdout.strip() == str(bool(armed))


def _run(armed: str, code: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, VARIABLE: armed}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
