"""The cursor: where a reader stands in the stream of one organisation (protocol, "Cursor")."""

from __future__ import annotations

import re
from typing import NamedTuple

from orgrealtime.protocol.errors import CursorError, OrgRealtimeError

_CURSOR = re.compile(r"([0-9a-f]{8})\.(0|[1-9][0-9]{0,17})", re.ASCII)


class Cursor(NamedTuple):
    """A position: all events up to and including number `seq` of `epoch` are known to the reader."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.seq}"

    @classmethod
    def parse(cls, text: object) -> Cursor:
        """Read a cursor from the wire; raise CursorError for anything but `<epoch>.<seq>`."""
        match = _CURSOR.fullmatch(text) if isinstance(text, str) and len(text) <= 35 else None
        if match is None:
            raise CursorError(
                "a cursor is the text that a frame or a page gave you as 'cursor'; this isn't one"
            )
        return cls(match[1], int(match[2]))


def is_cursor(text: object) -> bool:
    """Tell whether this is the text of a cursor."""
    return isinstance(text, str) and len(text) <= 35 and _CURSOR.fullmatch(text) is not None


class Position(NamedTuple):
    """What is known of a stream: its epoch, the newest number (`head`) and the newest number pruned (`floor`)."""

    epoch: str
    head: int
    floor: int

    @property
    def cursor(self) -> str:
        """The cursor of a reader that has seen everything, as text for the wire."""
        return str(Cursor(self.epoch, self.head))

    def cursor_at(self, seq: int) -> str:
        """The cursor of a reader that has seen everything up to `seq`."""
        return str(Cursor(self.epoch, seq))

    def resume(self, cursor: Cursor) -> int:
        """Return the number to go on from; raise StreamReset if nothing proves that a reader there missed nothing."""
        if cursor.epoch != self.epoch:
            raise StreamReset("epoch", cursor, self)
        if cursor.seq > self.head:
            raise StreamReset("ahead", cursor, self)
        if cursor.seq < self.floor:
            raise StreamReset("retention", cursor, self)
        return cursor.seq


class StreamReset(OrgRealtimeError):
    """Continuity after a cursor can't be proved.

    `reason` is `epoch` (another stream), `ahead` (beyond the head: an older database has been restored) or
    `retention` (pruned since); `after` is the cursor in question, `position` where to go on.
    """

    def __init__(self, reason: str, after: Cursor, position: Position) -> None:
        self.reason = reason
        self.after = after
        self.position = position
        super().__init__(
            f"events after this cursor can't be proved complete ({reason}); go on from {position.cursor}"
        )
