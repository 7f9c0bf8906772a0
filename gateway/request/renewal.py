"""Renewal: attempts of a request that is decided anew if the policy changes while it waits for its first slot."""

from __future__ import annotations

from gateway.domain.errors import GatewayError
from gateway.request.attempt import Attempts, PassedOn, Sent
from gateway.request.entitlement import Providers, Superseded
from gateway.request.exchange import Admitted


class RenewedAttempts(Attempts):
    """Attempts that keep up with the policy until the first call; a task is decided anew by whoever runs it."""

    _latest: Admitted | None = None

    async def begin(self, admitted: Admitted) -> tuple[Sent | PassedOn, Admitted, Providers]:
        """Return what `first_that_works` does, and the request and the providers by which it came to that."""
        entitlement = self._admission.entitlement
        while True:
            try:
                return await self.first_that_works(admitted), admitted, self._providers
            except Superseded:
                if entitlement is None or admitted.exchange.errand is not None:
                    raise
            admitted, self._providers = await entitlement.renewed(admitted)
            self._latest, self._course = admitted, None

    async def interrupted(self, admitted: Admitted, error: GatewayError | None = None) -> None:
        """End the hold that is still open, by the policy that it was taken by."""
        await super().interrupted(self._latest or admitted, error)
