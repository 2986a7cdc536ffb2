"""What one event loop needs to admit connections: its gate, lookup, quotas and rechecks."""

from __future__ import annotations

from orgrealtime.admission.gate import Gate
from orgrealtime.admission.lookup import Lookup
from orgrealtime.admission.quotas import Quotas
from orgrealtime.admission.rechecks import Rechecks
from orgrealtime.delivery.bell import HintKind
from orgrealtime.delivery.hub import Hub


class AdmissionService:
    """Admits the connections of a hub; `hub.service(AdmissionService)` is the one of that hub."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.gate = Gate(lambda: hub.is_draining)
        self.lookup = Lookup()
        self.quotas = Quotas()
        self.rechecks = Rechecks(hub.registry)
        hub.subscribe(HintKind.ACCESS_OF_USER, lambda hint: self.rechecks.hint_user(hint.user or ""))
        hub.subscribe(
            HintKind.ACCESS_OF_ORGANIZATION,
            lambda hint: self.rechecks.hint_organization(hint.organization or ""),
        )
        hub.on_stall(self.rechecks.hint_everybody)
        hub.subscribe(HintKind.MISSED, lambda hint: self.rechecks.check_organization(hint.organization or ""))

    async def close(self) -> None:
        """End all work; handshakes under way are cancelled."""
        await self.lookup.close()
        await self.quotas.close()
        await self.rechecks.close()
