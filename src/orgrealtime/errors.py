"""The exceptions of this package and the one table of close codes.

OrgRealtimeError
├── PayloadError (ValueError)       a payload that may not be published
│   └── PayloadTooLarge             … because of its size
├── EventTypeError (ValueError)     an event type that may not be published
├── CursorError (ValueError)        a text that is no cursor
├── MessageError (ValueError)       a message of a client that can't be carried out
├── StreamReset                     continuity after a cursor can't be proved
└── Refused                         a request or a connection that is turned away with a close code
"""

from __future__ import annotations

from orgrealtime.protocol.cursors import StreamReset
from orgrealtime.protocol.errors import (
    INTERNAL_ERROR,
    OUTCOMES,
    SERVICE_RESTART,
    UNSUPPORTED_DATA,
    CloseCode,
    CursorError,
    EventTypeError,
    MessageError,
    OrgRealtimeError,
    Outcome,
    PayloadError,
    PayloadTooLarge,
    Refused,
)

__all__ = [
    "INTERNAL_ERROR",
    "OUTCOMES",
    "SERVICE_RESTART",
    "UNSUPPORTED_DATA",
    "CloseCode",
    "CursorError",
    "EventTypeError",
    "MessageError",
    "OrgRealtimeError",
    "Outcome",
    "PayloadError",
    "PayloadTooLarge",
    "Refused",
    "StreamReset",
]
