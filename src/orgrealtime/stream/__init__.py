"""The stream of an organisation: append, number, read, prune. The only writer of its three tables.

An event is inserted without a number, in the transaction of its publisher. After the commit it is numbered by the
first process that reads, for every reader numbers before it reads. Numbers are therefore in the order in which events
became visible, and dense.
"""

from __future__ import annotations

from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream.access import Access
from orgrealtime.stream.numbering import advance, advance_some, heads, number, position, renew
from orgrealtime.stream.pruning import PruningReport, count_up_to, misdated, prune, retention_floor
from orgrealtime.stream.reading import follow, follow_one, read, read_last, read_recent
from orgrealtime.stream.types import Head, Page, StreamEvent
from orgrealtime.stream.writing import append, create, draw_event_id, forget_actor, scrub

# For hosts.
__all__ = ["Cursor", "Page", "Position", "StreamEvent", "position", "read", "read_last"]

# For the rest of the package.
__all__ += [
    "Access",
    "Head",
    "PruningReport",
    "advance",
    "advance_some",
    "append",
    "count_up_to",
    "create",
    "draw_event_id",
    "follow",
    "follow_one",
    "forget_actor",
    "heads",
    "misdated",
    "number",
    "prune",
    "read_recent",
    "renew",
    "retention_floor",
    "scrub",
]
