"""What a service refuses, with the code that clients get."""

from __future__ import annotations

from typing import Any

from orgrealtime.errors import MessageError

HTTP_STATUS = {
    "bad_request": 400,
    "forbidden": 403,
    "archived": 409,
    "conflict": 409,
    "too_long": 413,
    "empty": 422,
    "moderated": 422,
    "rate_limited": 429,
    "slow_mode": 429,
    "unavailable": 503,
}

# The same for a room that doesn't exist, one that isn't theirs and what they may not do there: nothing shows which.
FORBIDDEN = "no such room, or you may not do this there"


class ChatError(MessageError):
    """What somebody asked of a room can't be done; `details` are numbers and texts that go to the client as well."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message, code)
        self.message = message
        self.details: dict[str, Any] = details

    @property
    def http_status(self) -> int:
        """With which HTTP answers it."""
        return HTTP_STATUS[self.code]


def forbidden() -> ChatError:
    """Return the refusal that says nothing about what there is."""
    return ChatError("forbidden", FORBIDDEN)
