"""Rules of a host where everybody may make rooms."""

from typing import Any

from orgrealtime.chat.rules import Rules


class OpenRules(Rules):
    def can_create(self, user: Any, organization_id: Any, kind: str) -> bool:
        return True
