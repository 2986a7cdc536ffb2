"""What a user may see: the condition for live delivery and the one for catching up stand side by side here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from orgrealtime.keys import StoredKey, user_keys
from orgrealtime.stream.types import StreamEvent


@dataclass(frozen=True, slots=True)
class Access:
    """What one user may see of one organisation.

    `event_types` are the only types shown to this user; None means all. `user_key` is the user's primary key as its
    column holds it, which is what the audience of an event has.
    """

    organization_id: Any
    user_id: Any
    role: str = ""
    event_types: frozenset[str] | None = None
    user_key: StoredKey = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "user_key", user_keys().stored_or_text(self.user_id))

    def sees(self, event: StreamEvent) -> bool:
        """Tell whether this user may have the event; `type_condition` and the recipients say so to the database."""
        if self.event_types is not None and event.type not in self.event_types:
            return False
        return event.audience is None or self.user_key in event.audience

    def type_condition(self, column: str) -> tuple[str, list[str]]:
        """Return the SQL condition on the column of the type, and its parameters, that agrees with `sees`."""
        if self.event_types is None:
            return "1 = 1", []
        if not self.event_types:
            return "1 = 0", []
        return f"{column} IN ({', '.join(['%s'] * len(self.event_types))})", sorted(self.event_types)

    def type_conditions(self, column: str, most: int) -> list[tuple[str, list[str]]]:
        """Return conditions of which one holds where `type_condition` does: one for each type, if there are at most
        `most`."""
        if self.event_types is None or len(self.event_types) > most:
            return [self.type_condition(column)]
        return [(f"{column} = %s", [each]) for each in sorted(self.event_types)]
