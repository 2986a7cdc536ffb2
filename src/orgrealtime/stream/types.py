"""What a stream is read as, and what is told of where it stands."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from orgrealtime.keys import StoredKey
from orgrealtime.protocol.cursors import Position

NOBODY: frozenset[StoredKey] = frozenset()


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One numbered event: `text` is its JSON as all see it, `audience` the keys of the users it is for, as
    their column holds them (None: all members).

    With a `topic` it is for those of them alone whose access has that; `grants` and `withdraws` are the users whose
    access to it begins or ends here. One that `replaces` says anew what events before it have said of its `subject`.
    """

    seq: int
    type: str
    text: str
    audience: frozenset[StoredKey] | None = None
    topic: str | None = None
    grants: frozenset[StoredKey] = NOBODY
    withdraws: frozenset[StoredKey] = NOBODY
    subject: str | None = None
    replaces: bool = False

    @property
    def weight(self) -> int:
        """About how many characters' worth of memory it takes."""
        return len(self.text) + 32 * len(self.audience or ())


class Page(NamedTuple):
    """Consecutive events after a cursor: the reader stands at number `seq` after them, `has_more` says if more wait.

    `joint` is when the event at the cursor was created, and `end` when the last one of these was, as the database tells
    it; None: it isn't known. A reader who has had another event at its cursor reads another history. `topics` are those
    of the reader's access in the snapshot in which the events were read; None: they weren't asked for.
    """

    position: Position
    events: list[StreamEvent]
    seq: int
    has_more: bool
    joint: datetime.datetime | str | None = None
    end: datetime.datetime | str | None = None
    topics: Mapping[str, int] | None = None

    @property
    def cursor(self) -> str:
        """The cursor of a reader that has got this page."""
        return self.position.cursor_at(self.seq)


class Head(NamedTuple):
    """How far an organisation's stream is, and whether committed events wait for a number."""

    epoch: str
    head: int
    pending: bool


class NumberingOutcome(NamedTuple):
    """Where a stream stands after events have been numbered, and whether more may wait for a number."""

    position: Position
    has_more: bool


class Numbering(NamedTuple):
    """What one numbering came to: `numbered` of the events that were `waiting` have got a number.

    Nothing is numbered in a stream that isn't `is_at_home`: its row has been copied from another table or database, or
    a standby has been promoted; nor in one that isn't `is_whole`: events have numbers beyond its head.
    """

    position: Position
    waiting: int
    numbered: int
    is_at_home: bool = True
    is_whole: bool = True
