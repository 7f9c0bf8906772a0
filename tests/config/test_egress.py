"""What the keys for calls to URLs of others become."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from gateway.config.load import load_policy
from gateway.domain.addresses import Egress
from tests.config.golden import HERE, TODAY

BASE = (HERE / "base" / "base.yaml").read_text()
PROJECT = """
projects:
  team: {job_types: [hero], callbacks: {secrets: ["${NEW}", "${OLD}"]}}
  other: {job_types: [hero]}
"""
SECRETS = {"NEW": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "OLD": "a_text_of_24_bytes_or_more"}


def test_what_several_files_open_adds_up(tmp_path: Path) -> None:
    """Networks and hosts of all files are opened, an address as a network of its own, a host on its port or on all."""
    (tmp_path / "base.yaml").write_text(BASE)
    (tmp_path / "one.yaml").write_text('egress: {allow: [10.1.0.0/16, "hooks.internal:8443"]}\n')
    (tmp_path / "two.yaml").write_text('egress: {allow: [10.2.0.1, Hooks, "fd00::/8", "[fd12::1]:81"]}\n')
    policy = load_policy(tmp_path, environ={"KEY": "k"}, today=TODAY).policy

    assert policy is not None
    assert policy.egress == Egress(
        (ip_network("10.1.0.0/16"), ip_network("10.2.0.1/32"), ip_network("fd00::/8")),
        frozenset({("hooks.internal", 8443), ("hooks", None), ("fd12::1", 81)}),
    )


def test_secrets_are_read_in_their_order_and_shown_nowhere(tmp_path: Path) -> None:
    """A project has the secrets that the environment holds, in either form; one without the key has none."""
    (tmp_path / "base.yaml").write_text(BASE + PROJECT)
    policy = load_policy(tmp_path, environ={"KEY": "k", **SECRETS}, today=TODAY).policy

    assert policy is not None
    assert [secret.reveal() for secret in policy.projects["team"].callback_secrets] == list(SECRETS.values())
    assert policy.projects["other"].callback_secrets == ()
    assert not any(secret in repr(policy) for secret in SECRETS.values())


def test_a_secret_that_is_too_short_is_named_and_not_shown(tmp_path: Path) -> None:
    """What is wrong with a secret is said without any of it."""
    (tmp_path / "base.yaml").write_text(BASE + PROJECT)
    loaded = load_policy(tmp_path, environ={"KEY": "k", **SECRETS, "NEW": "whsec_Zm9vYmFy"}, today=TODAY)

    [problem] = loaded.problems
    assert (problem.key, problem.message) == (
        "projects.team.callbacks.secrets[0]",
        "the secret is too short: 24 bytes at least",
    )
