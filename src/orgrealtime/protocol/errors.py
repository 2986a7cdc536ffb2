"""The exceptions of this package but `StreamReset`, and the one table of close codes; all are in `orgrealtime.errors`.

OrgRealtimeError
├── PayloadError (ValueError)       a payload that may not be published
│   └── PayloadTooLarge             … because of its size
├── EventTypeError (ValueError)     an event type that may not be published
├── CursorError (ValueError)        a text that is no cursor
├── MessageError (ValueError)       a message of a client that can't be carried out
└── Refused                         a request or a connection that is turned away with a close code
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one close code means to HTTP and to the client."""

    code: int
    name: str
    http_status: int | None
    retry: bool
    meaning: str


class CloseCode(enum.IntEnum):
    """The close codes of the protocol; `outcome` holds the row of the table (protocol, "Close and error codes")."""

    BAD_REQUEST = 4400
    UNAUTHENTICATED = 4401
    FORBIDDEN = 4403
    SLOW_CONSUMER = 4408
    PAYLOAD_TOO_LARGE = 4413
    RATE_LIMITED = 4429
    OVERLOADED = 4503

    @property
    def outcome(self) -> Outcome:
        """The row of this code in the table."""
        return OUTCOMES[self]

    @property
    def label(self) -> str:
        """The name of this code on the wire and in logs."""
        return OUTCOMES[self].name


OUTCOMES: dict[CloseCode, Outcome] = {
    CloseCode(row.code): row
    for row in (
        Outcome(
            4400,
            "bad_request",
            400,
            retry=False,
            meaning="too many malformed messages, or a malformed request",
        ),
        Outcome(
            4401, "unauthenticated", 401, retry=False, meaning="no session, or it expired or was logged out"
        ),
        Outcome(4403, "forbidden", 403, retry=False, meaning="no such organisation, or not a member of it"),
        Outcome(
            4408, "slow_consumer", None, retry=True, meaning="the client reads too slowly; resume by cursor"
        ),
        Outcome(4413, "payload_too_large", 413, retry=False, meaning="a message exceeds the size limit"),
        Outcome(4429, "rate_limited", 429, retry=True, meaning="too many messages or connections"),
        Outcome(4503, "overloaded", 503, retry=True, meaning="the server can't take this connection now"),
    )
}

# RFC 6455 section 7.4.1
UNSUPPORTED_DATA = 1003
INTERNAL_ERROR = 1011
SERVICE_RESTART = 1012


class OrgRealtimeError(Exception):
    """The root of all exceptions raised by this package."""


class PayloadError(OrgRealtimeError, ValueError):
    """A payload that can't be published; the message names the place, what was seen and what is allowed."""


class PayloadTooLarge(PayloadError):
    """A payload whose JSON text exceeds the limit; `size` is what was counted until that was certain."""

    def __init__(self, size: int, limit: int, *, is_least: bool = False) -> None:
        self.size = size
        self.limit = limit
        least = "at least " if is_least else ""
        super().__init__(f"the payload takes {least}{size} bytes as JSON; at most {limit} are allowed")


class EventTypeError(OrgRealtimeError, ValueError):
    """An event type that can't be published; the message says what is allowed."""


class CursorError(OrgRealtimeError, ValueError):
    """A text that is no cursor of the form `<epoch>.<seq>`."""


class MessageError(OrgRealtimeError, ValueError):
    """A message of a client that can't be carried out; `code`, the text and `details` go to the client.

    `details` are what a program needs to know beside the code, as a limit and how far it is exceeded: plain JSON.
    """

    def __init__(self, message: str, code: str = "bad_request", **details: Any) -> None:
        self.code = code
        self.details = details
        super().__init__(message)


class Refused(OrgRealtimeError):
    """A connection or request that is turned away; `reason` is for the log, the client gets `code` and `message`.

    `retry_after` are the seconds after which it is worth trying again, if that is known.
    """

    def __init__(
        self, code: CloseCode, reason: str, message: str | None = None, retry_after: int | None = None
    ) -> None:
        self.code = code
        self.reason = reason
        self.message = message or code.outcome.meaning
        self.retry_after = retry_after
        super().__init__(reason)
