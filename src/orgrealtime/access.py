"""Who may see what: the rule for live delivery and the rule for catching up stand side by side here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import models, router, transaction

from orgrealtime import bell
from orgrealtime.tail import StreamEvent


@dataclass(frozen=True, slots=True)
class Access:
    """What one user may see of one organisation.

    `event_types` are the only types shown to this user; None means all.
    """

    organization_id: Any
    user_id: Any
    role: str = ""
    event_types: frozenset[str] | None = None

    def sees(self, event: StreamEvent) -> bool:
        """Tell whether this user may have the event; `type_condition` and the recipients say so to the database."""
        if self.event_types is not None and event.type not in self.event_types:
            return False
        return event.audience is None or self.user_id in event.audience

    def type_condition(self, column: str) -> tuple[str, list[str]]:
        """Return the SQL condition on the column of the type, and its parameters, that agrees with `sees`."""
        if self.event_types is None:
            return "1 = 1", []
        if not self.event_types:
            return "1 = 0", []
        return f"{column} IN ({', '.join(['%s'] * len(self.event_types))})", sorted(self.event_types)


def revoke(user: models.Model, organization: models.Model) -> None:
    """Have this user's connections to this organisation checked again, after the commit of the open transaction.

    Call it where access ends without a signal, as with `QuerySet.update`; deleting or saving a membership or a
    user does it by itself.
    """
    using = router.db_for_write(type(organization), instance=organization)
    transaction.on_commit(partial(bell.check_user, user.pk, organization.pk), using=using, robust=True)
