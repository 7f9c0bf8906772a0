"""How much memory a process may have, by the control groups that it is in."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.process.memory import group_limits


@pytest.mark.parametrize(
    ("groups", "own", "file"),
    [
        ("0::/system.slice/image-gateway.service\n", "system.slice/image-gateway.service", "memory.max"),
        ("5:devices:/\n4:memory:/box/one\n0::/\n", "memory/box/one", "memory.limit_in_bytes"),
    ],
)
def test_a_service_has_the_limit_of_its_own_group(tmp_path: Path, groups: str, own: str, file: str) -> None:
    """Under a service manager the limit stands in the service's group, or one around it, and not at the top."""
    group = tmp_path / own
    group.mkdir(parents=True)
    (group / file).write_text("1000000\n")
    (group.parent / file).write_text("max\n")
    (group.parent.parent / file).write_text("3000000\n")
    assert min(group_limits(groups, tmp_path)) == 1_000_000
    (group / file).write_text("9000000\n")
    assert min(group_limits(groups, tmp_path)) == 3_000_000


def test_a_container_has_the_limit_at_the_top(tmp_path: Path) -> None:
    """There the group that it sees as the topmost is its own; without a limit there is none."""
    (tmp_path / "memory.max").write_text("2000000\n")
    assert list(group_limits("0::/\n", tmp_path)) == [2_000_000]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(group_limits("0::/\n", tmp_path)) == []
