"""Members as in the example, and guests, who see notes only; it can be made to hang or fail."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from orgrealtime.access import Access
from orgrealtime.adapters import MembershipAdapter
from tests.faults import trouble
from tests.faults.population import ROLES


class RolesAdapter(MembershipAdapter):
    """What a role shows: a member all types of events, a guest one."""

    def access(self, membership: Any) -> Access:
        access = super().access(membership)
        return replace(access, event_types=ROLES.get(access.role))

    def accesses(self, pairs: Collection[tuple[Any, Any]]) -> dict[tuple[Any, Any], tuple[Access, Any]]:
        trouble.meet("accesses", [user_id for _, user_id in pairs])
        return super().accesses(pairs)
