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
    """Events up to number `seq`, where a reader stands at `cursor` after them."""

    __slots__ = ("_addressed", "_frames", "cursor", "events", "seq")

    def __init__(self, events: list[StreamEvent], seq: int, cursor: str) -> None:
        self.events = events
        self.seq = seq
        self.cursor = cursor
        self._addressed: frozenset[Any] = frozenset().union(*(event.audience or () for event in events))
        self._frames: dict[Any, Frame | None] = {}

    def frame_for(self, access: Access) -> Frame | None:
        """Return the frame for a reader with this access; None if it may see none of the events."""
        view: Any = access.event_types
        if access.user_key in self._addressed:
            view = tuple(event.seq for event in self.events if access.sees(event))
        if view not in self._frames:
            self._frames[view] = self._frame([event.text for event in self.events if access.sees(event)])
        return self._frames[view]

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


def cut(events: list[StreamEvent], seq: int, cursor_at: Callable[[int], str]) -> Iterator[Chunk]:
    """Cut a run of events that ends at number `seq` into chunks within the bounds of a frame."""
    part: list[StreamEvent] = []
    chars = 0
    for event in events:
        if part and (len(part) == MAX_EVENTS or chars + len(event.text) > MAX_CHARS):
            yield Chunk(part, part[-1].seq, cursor_at(part[-1].seq))
            part, chars = [], 0
        part.append(event)
        chars += len(event.text)
    yield Chunk(part, seq, cursor_at(seq))
