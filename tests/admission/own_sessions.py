"""A host's own session engine: kept in the table, with a `load` that only it understands."""

from __future__ import annotations

from typing import Any

from django.contrib.sessions.backends.db import SessionStore as DatabaseSession


class SessionStore(DatabaseSession):
    """Has a word of its own in each session."""

    def load(self) -> dict[str, Any]:
        """Return the session as the table has it, and the word."""
        data: dict[str, Any] = super().load()
        return {**data, "own": True} if data else data
