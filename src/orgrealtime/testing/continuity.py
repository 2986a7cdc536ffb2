"""Whether what a client received is the stream without a gap: pure, for the tests of host projects and our own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from orgrealtime.errors import CursorError
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.protocol.wire import SERVER_FRAMES

__all__ = ["assert_no_gap"]


def assert_no_gap(frames: Iterable[Mapping[str, Any]], *, sees_everything: bool = True) -> None:
    """Raise AssertionError unless events, as decoded frames or alone, are in order, each once, and none is missing.

    Takes the frames of one connection, or of several in a row that each went on at the cursor of the last. A reader
    with `sees_everything` gets all numbers; another reader may miss some, but each number is beyond the last.
    A `reset` may go anywhere, also into another epoch; nothing else may.
    """
    reader = _Reader(sees_everything)
    for number, frame in enumerate(frames, 1):
        try:
            reader.take(frame)
        except (_Gap, CursorError, KeyError) as error:
            kind, cursor = frame.get("type"), frame.get("cursor")
            raise AssertionError(f"frame {number} ({kind!r}, cursor {cursor!r}): {error}") from None


class _Gap(Exception):
    """What is wrong with a frame."""


class _Reader:
    def __init__(self, sees_everything: bool) -> None:  # noqa: FBT001 - private
        self._sees_everything = sees_everything
        self._stands: Cursor | None = None

    def take(self, frame: Mapping[str, Any]) -> None:
        kind = frame["type"]
        if kind == "reset":
            self._stands = Cursor.parse(frame["cursor"])
        elif kind == "welcome":
            self._be_at(Cursor.parse(frame["cursor"]))
        elif kind == "batch":
            for event in frame["events"]:
                self._take_event(Cursor.parse(event["cursor"]))
            self._pass_to(Cursor.parse(frame["cursor"]))
        elif kind in {"cursor", "synced", "pong"}:
            self._pass_to(Cursor.parse(frame["cursor"]))
        elif kind not in SERVER_FRAMES and "cursor" in frame:
            self._take_event(Cursor.parse(frame["cursor"]))

    def _take_event(self, cursor: Cursor) -> None:
        before = self._stands
        if before is not None:
            self._check_epoch(before, cursor)
            if cursor.seq <= before.seq:
                raise _Gap(f"this event isn't beyond {before}: it came twice or in the wrong order")
            if self._sees_everything and cursor.seq != before.seq + 1:
                raise _Gap(f"events are missing between {before} and this one")
        self._stands = cursor

    def _pass_to(self, cursor: Cursor) -> None:
        before = self._stands
        if before is not None:
            self._check_epoch(before, cursor)
            if cursor.seq < before.seq:
                raise _Gap(f"it goes back from {before}")
            if self._sees_everything and cursor.seq != before.seq:
                raise _Gap(f"events are missing between {before} and this cursor")
        self._stands = cursor

    def _be_at(self, cursor: Cursor) -> None:
        if self._stands not in (None, cursor):
            raise _Gap(f"the connection doesn't go on at {self._stands}, where the last one ended")
        self._stands = cursor

    def _check_epoch(self, before: Cursor, cursor: Cursor) -> None:
        if cursor.epoch != before.epoch:
            raise _Gap(f"another epoch than {before}'s, without a reset")
