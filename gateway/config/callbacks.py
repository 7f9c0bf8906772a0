"""Callbacks of a project: the secrets that its messages are signed with."""

from __future__ import annotations

from gateway.config.documents import Node
from gateway.config.fields import Fields
from gateway.config.problems import Report
from gateway.config.schema import CALLBACKS
from gateway.config.secrets import SecretSources
from gateway.config.values import listed
from gateway.domain.route import Secret
from gateway.domain.webhook import key_of

_MOST = 10
"""A message carries one signature by each."""


def read_callbacks(owner: Fields, secret_sources: SecretSources, report: Report) -> tuple[Secret, ...]:
    """Read the map under `callbacks`; no secrets if it is left out, or where they are missing."""
    fields = owner.within("callbacks", CALLBACKS)
    if fields is None:
        return ()

    def secret(node: Node, report: Report) -> Secret | None:
        found = secret_sources.secret(node, report)
        if found is None:
            return None
        try:
            key_of(found.reveal())
        except ValueError as error:
            report.problem(node.place, f"the secret {error}")
            return None
        return found

    secrets = fields.required("secrets", listed(secret)) or ()
    if len(secrets) > _MOST:
        report.problem(fields.at("secrets"), f"has more than {_MOST}; take out those that no receiver knows any more")
    return secrets
