"""A run of events that goes out as one frame, encoded once for all connections that see the same of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from orgrealtime.delivery.transport import text_frame
from orgrealtime.protocol import wire
from orgrealtime.stream.access import Access
from orgrealtime.stream.types import StreamEvent

MAX_EVENTS = 500
MAX_CHARS = 262_144

Message = dict[str, Any]


@dataclass(slots=True)
class Frame:
    """What goes out for a chunk: the ASGI message, and how many events are in it."""

    message: Message
    events: int
    _data: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def data(self) -> bytes:
        """The same as the bytes of a WebSocket frame."""
        if self._data is None:
            self._data = text_frame(self.message["text"])
        return self._data


class Chunk:
    """Events up to number `seq`, where a reader stands at `cursor` after them.

    `topics` are those of its events, and if it `is_topical` they all have one. `change` is its last event, if that
    grants or withdraws a topic. If it `is_replaceable` events to come may say something else of what these are about.
    """

    __slots__ = (
        "_addressed", "_frames", "change", "cursor", "events", "is_replaceable", "is_topical", "seq", "topics",
    )  # fmt: skip

    def __init__(self, events: list[StreamEvent], seq: int, cursor: str) -> None:
        self.events = events
        self.seq = seq
        self.cursor = cursor
        self._addressed: frozenset[Any] = frozenset().union(*(event.audience or () for event in events))
        self._frames: dict[Any, Frame | None] = {}
        topics = {event.topic for event in events}
        self.is_topical = bool(events) and None not in topics
        self.topics = frozenset(topic for topic in topics if topic is not None)
        self.change = events[-1] if events and changes_access(events[-1]) else None
        self.is_replaceable = any(event.subject is not None for event in events)

    def frame_for(self, access: Access) -> Frame | None:
        """Return the frame for a reader with this access; None if it may see none of the events."""
        view: Any = access.event_types
        if self._is_singular(access):
            view = tuple(event.seq for event in self.events if access.sees(event))
        if view not in self._frames:
            self._frames[view] = self._frame([event.text for event in self.events if access.sees(event)])
        return self._frames[view]

    def _is_singular(self, access: Access) -> bool:
        """Tell whether a reader may see other events than all others do to whom the same types are shown."""
        return (
            access.user_key in self._addressed
            or access.only_topic is not None
            or not self.topics.isdisjoint(access.topics)
            or (self.change is not None and access.user_key in self.change.grants)
        )

    def rendered_for(self, access: Access, render: Callable[[str], str | None]) -> Frame | None:
        """Return the frame for a reader whose events are rendered for it alone."""
        rendered = (render(event.text) for event in self.events if access.sees(event))
        return self._frame([text for text in rendered if text is not None])

    def _frame(self, texts: list[str]) -> Frame | None:
        if not texts:
            return None
        # An event's own frame says where the reader stands only if nothing that it may not see comes after it.
        is_alone = len(self.events) == 1 and self.events[0].seq == self.seq
        return Frame(text_message(texts[0] if is_alone else wire.batch(texts, self.cursor)), len(texts))


def text_message(text: str) -> Message:
    """Return the ASGI message that sends a text frame."""
    return {"type": "websocket.send", "text": text}


def changes_access(event: StreamEvent) -> bool:
    """Tell whether an event grants or withdraws its topic."""
    return bool(event.grants or event.withdraws)


def cut(events: list[StreamEvent], seq: int, cursor_at: Callable[[int], str]) -> Iterator[Chunk]:
    """Cut a run of events that ends at number `seq` into chunks within the bounds of a frame, where access changes, and
    after the last of them."""
    part: list[StreamEvent] = []
    chars = 0
    for event in events:
        if part and (len(part) == MAX_EVENTS or chars + len(event.text) > MAX_CHARS):
            yield Chunk(part, part[-1].seq, cursor_at(part[-1].seq))
            part, chars = [], 0
        part.append(event)
        chars += len(event.text)
        if changes_access(event):  # which counts for what comes after it
            yield Chunk(part, event.seq, cursor_at(event.seq))
            part, chars = [], 0
    yield Chunk(part, seq, cursor_at(seq))
