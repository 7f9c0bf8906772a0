"""Renewal: attempts of a request that is decided anew if the policy changes while it waits for its first slot."""

from __future__ import annotations

from gateway.domain.errors import GatewayError
from gateway.request.attempt import Attempts
from gateway.request.entitlement import Providers, Superseded
from gateway.request.exchange import Admitted


class RenewedAttempts(Attempts):
    """Attempts that keep up with the policy until the first call; a task is decided anew by whoever runs it."""

    _latest: Admitted | None = None

    async def renewed(self, admitted: Admitted, superseded: Superseded) -> tuple[Admitted, Providers]:
        """Return the request as today's policy has it, and the providers, to begin anew; a task is told so."""
        if admitted.exchange.task is not None:
            raise superseded
        admitted, self._providers = await self._context.entitlement.renewed(admitted)
        self._latest, self.plan = admitted, None
        return admitted, self._providers

    async def interrupted(self, admitted: Admitted, error: GatewayError | None = None) -> None:
        """End the hold that is still open, by the policy that it was taken by."""
        await super().interrupted(self._latest or admitted, error)
