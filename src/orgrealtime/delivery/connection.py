"""One reader of a stream: an integer cursor, at most one frame under way, and what was asked for meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from orgrealtime import stream
from orgrealtime.concurrency.eager import run_eagerly
from orgrealtime.conf import get_settings
from orgrealtime.delivery.acknowledgements import MAX_UNACKNOWLEDGED, Acknowledgements
from orgrealtime.delivery.authorization import Authorized, Hold
from orgrealtime.delivery.chunks import Chunk, Message, cut, text_message
from orgrealtime.delivery.tail import Tail
from orgrealtime.delivery.transport import FrameWriter
from orgrealtime.errors import CloseCode, StreamReset
from orgrealtime.protocol import wire
from orgrealtime.protocol.cursors import Cursor, Position
from orgrealtime.stream import Page
from orgrealtime.stream.access import Access, Topics
from orgrealtime.stream.database import BACKLOG

__all__ = ["MAX_UNACKNOWLEDGED", "Connection", "Hold", "Source"]

logger = logging.getLogger("orgrealtime.connection")

MAX_REPLIES = 64
UNACKNOWLEDGED = CloseCode.SLOW_CONSUMER, "events not acknowledged"
BACKLOG_PAGE = 200
RETRY_SECONDS = 1.0


class Source(Protocol):
    """What a connection reads from: the feed of its organisation."""

    organization_id: Any
    epoch: str
    tail: Tail

    def remove(self, connection: Connection) -> None:
        """Serve a connection no longer."""

    def position(self) -> Position:
        """Where this source stands."""

    def chunk_after(self, seq: int) -> Chunk | None:
        """Return the next frame's worth of events after `seq`, or None if the tail doesn't reach back that far."""

    def wake(self) -> None:
        """Look for new events."""

    def before_sending(self) -> None:
        """Do what has to be done before events are sent that have been read just now."""

    def owe_cursors(self) -> None:
        """Tell connections soon how far they are past what they may not see."""

    def has_replaced_since(self, seq: int) -> bool:
        """Tell whether an event after number `seq` says anew what events before it have said."""

    def wait(self, connection: Connection) -> None:
        """Have a connection go on with whatever is read next."""

    def ask_again(self, connection: Connection) -> None:
        """Have the access of a connection checked that may have jumped over changes of it, before it gets an event."""

    def change_topics(self, connection: Connection, before: Topics) -> None:
        """Note that a connection has other topics than before."""


class Connection(Authorized):
    """Sends what lies after its cursor whenever the socket takes it: backlog, live events and recovery are one.

    `credentials` are what its access is checked again by; nothing here looks into them. `asgi_send` is the server's
    send, `write_frame` its way for ready frames, if it has one; `hang_up` is called once, when nothing more is to be
    sent but the close code; `render`, if given, makes the text of each event for this connection alone.
    """

    __slots__ = (
        "_acknowledgements", "_backlog", "_backlog_at", "_hang_up", "_reader", "_render", "_replies",
        "_send", "_synced", "_target", "_task", "_told", "_write_frame", "close_code",
        "close_reason", "credentials", "epoch", "feed", "id", "is_over", "pinged_at",
        "sent_events", "seq",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        credentials: Any,
        access: Access,
        cursor: Cursor,
        asgi_send: Callable[[Message], Awaitable[None]],
        hang_up: Callable[[], None],
        render: Callable[[str], str | None] | None = None,
        write_frame: FrameWriter | None = None,
    ) -> None:
        self.id = id
        self.credentials = credentials
        super().__init__(access)
        self.epoch = cursor.epoch
        self.seq = cursor.seq
        self.feed: Source | None = None
        self.close_code: int | None = None
        self.close_reason = "by the client"
        self.sent_events = 0
        self.is_over = False  # nothing serves this socket any more
        self.pinged_at: float | None = None
        self._send = asgi_send
        self._hang_up = hang_up
        self._render = render
        self._write_frame = write_frame
        self._task: asyncio.Task[None] | None = None  # what must end before the next frame
        self._reader: asyncio.Task[None] | None = None  # what must end before the next event
        self._replies: deque[Message] | None = None
        self._backlog: deque[Chunk] | None = None
        self._backlog_at = 0  # the head of the stream when it was read
        self._synced = False
        self._told = cursor.seq  # the last `seq` that the client has been told
        self._target = 0
        self._acknowledgements: Acknowledgements | None = None

    @property
    def cursor(self) -> str:
        """Where this reader stands."""
        return str(Cursor(self.epoch, self.seq))

    # ------------------------------------------------------------------------------------------------ sending

    def start(self, frames: list[str], target: int, page: Page | None) -> None:
        """Send the first frames, then the backlog: a page read for this reader alone, if any, then what the feed has.

        The reader is in sync when it stands at number `target`, the head at the time it was let in.
        """
        self._target = target
        for frame in frames:
            self.reply(frame)
        if page is not None:
            self._add_backlog(page)
        self.pump()

    def pump(self) -> None:
        """Send what lies after the cursor, until there is nothing more or the socket must be waited for."""
        while self.feed is not None and self._is_free() and not self._waits_for_ack() and self.held is None:
            chunk = self._next_chunk(self.feed)
            if chunk is None:
                return
            self._send_chunk(chunk)

    def take(self, chunk: Chunk, after: Cursor) -> None:
        """Send the newest chunk of the feed, which comes `after` what it had: the short way of `pump`, for thousands.

        A reader that stands elsewhere, or has anything else to do first, goes the long way.
        """
        if (
            self.seq != after.seq
            or self.epoch != after.epoch
            or not self._synced
            or self._task is not None
            or self._acknowledgements is not None
            or self._backlog
            or self.close_code is not None
            or self.held is not None
        ):
            self.pump()
            return
        self._send_chunk(chunk)
        if self._told != self.seq and self.feed is not None:
            self.feed.owe_cursors()

    def reply(self, text: str) -> None:
        """Send a frame that is no event, in turn; a client that asks but doesn't read is closed."""
        if self.close_code is not None:
            return
        if self._task is None:
            self._write(text_message(text))
        elif self._replies is not None and len(self._replies) >= MAX_REPLIES:
            self.close(CloseCode.SLOW_CONSUMER, "replies not read")
        else:
            self._replies = self._replies or deque()
            self._replies.append(text_message(text))

    def reset(self, position: Position, reason: str) -> None:
        """Tell the client that continuity is lost, and go on from `position`."""
        self.epoch, self.seq = position.epoch, position.head
        self._target = self._told = self.seq
        self._backlog = None
        self.enter_other_history(position.head)
        if self.feed is not None:
            self.feed.ask_again(self)
        self._forget_acknowledgements()
        self.reply(wire.reset(position.cursor, reason))

    def send_cursor(self) -> None:
        """Tell the client how far it has come past events that it may not see."""
        if self._told != self.seq and self._task is None and self.feed is not None:
            self._told = self.seq
            self.reply(wire.cursor(self.cursor))

    def _next_chunk(self, feed: Source) -> Chunk | None:
        if self.epoch != feed.epoch:
            self.reset(feed.position(), "epoch")
        if self._backlog and not feed.has_replaced_since(self._backlog_at):
            return self._backlog.popleft()
        self._backlog = None
        if self.seq >= feed.tail.head:
            self._caught_up(feed)
            return None
        chunk = feed.chunk_after(self.seq)
        if chunk is None and self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read_backlog(feed))
        if chunk is not None and chunk.is_replaceable and feed.tail.head < self._target:
            feed.wait(self)  # what had been replaced when this reader was let in, it hasn't read yet
            return None
        return chunk

    def _send_chunk(self, chunk: Chunk) -> None:
        render = self._render
        frame = chunk.frame_for(self.access) if render is None else chunk.rendered_for(self.access, render)
        self.seq = chunk.seq
        if frame is not None:
            self._told = chunk.seq
            self.sent_events += frame.events
            if self._acknowledgements is not None:
                self._acknowledgements.add_sent(frame.events)
            if self._write_frame is None or not self._write_frame(frame.data):
                self._write(frame.message)
        if chunk.change is not None:
            self.pass_change(chunk.change)

    def skip(self, seq: int) -> None:
        """Go on to number `seq`, between which and here there is nothing that this reader may see; never back."""
        if not self._backlog:
            self.seq = max(self.seq, seq)

    def _add_backlog(self, page: Page) -> None:
        self._backlog = deque(cut(page.events, page.seq, page.position.cursor_at))
        self._backlog_at = page.position.head
        if page.topics is not None and page.position.head >= self.access.topics_at:
            self.change_access(self.access.with_topics(page.topics, page.position.head))

    def _caught_up(self, feed: Source) -> None:
        if not self._synced and self.seq < self._target:
            feed.wait(self)  # it hasn't read that far yet
        elif not self._synced:
            self._synced = True
            self._told = self.seq
            self.reply(wire.synced(self.cursor))
        elif self._told != self.seq:
            feed.owe_cursors()

    async def _read_backlog(self, feed: Source) -> None:
        # In this reader's own time: the feed's tail doesn't reach back far enough.
        after = Cursor(self.epoch, self.seq)
        try:
            page = await BACKLOG.run(
                stream.read, feed.organization_id, after, access=self.access, limit=BACKLOG_PAGE
            )
        except StreamReset as reset:
            if reset.reason == "retention":
                self.reset(reset.position, reset.reason)
            else:
                feed.wake()  # the whole stream has changed: the feed will tell all its readers
                await asyncio.sleep(RETRY_SECONDS)
        except Exception as error:
            logger.warning(
                "the backlog can't be read, trying again",
                extra={"connection_id": self.id, "error": type(error).__name__},
            )
            await asyncio.sleep(RETRY_SECONDS)
        else:
            feed.before_sending()
            if after == (self.epoch, self.seq):
                self._add_backlog(page)
        self._reader = None
        self.pump()

    def _write(self, message: Message) -> None:
        try:
            rest = run_eagerly(self._send(message))
        except Exception as error:
            self._lost(error)
            return
        if rest is not None:
            self._start(self._finish(rest))

    async def _finish(self, rest: Awaitable[None]) -> None:
        try:
            async with asyncio.timeout(get_settings().SEND_TIMEOUT_SECONDS):
                await rest
        except TimeoutError:
            self.close(CloseCode.SLOW_CONSUMER, "a frame wasn't taken in time")
        except Exception as error:
            self._lost(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        if self._task is not task:
            return
        self._task = None
        while self._is_free() and self._replies:
            self._write(self._replies.popleft())
        self.pump()

    def _is_free(self) -> bool:
        return self._task is None and self.close_code is None

    def topics_changed(self, before: Topics) -> None:
        """Have the feed serve this connection with the topics that its access has now."""
        if self.feed is not None:
            self.feed.change_topics(self, before)

    # --------------------------------------------------------------------------------------------- receiving

    def acknowledge(self, cursor: Cursor) -> int | None:
        """Note that the client has handled all up to `cursor`; return how many events more, None if it can't have."""
        feed = self.feed
        if feed is None or cursor.epoch != self.epoch or cursor.seq > self.seq:
            return None
        if self._acknowledgements is None:
            self._acknowledgements = Acknowledgements(self.sent_events)
        covered = self._acknowledgements.acknowledge(cursor.seq, self.seq)
        self.pump()
        return covered

    def ping(self, now: float) -> None:
        """Answer a ping that came at `now` (seconds of the loop's clock)."""
        self.pinged_at = now
        # Not `seq`: who asks often would learn when others get events.
        self.reply(wire.pong(str(Cursor(self.epoch, self._told))))

    def _waits_for_ack(self) -> bool:
        acks = self._acknowledgements
        return acks is not None and acks.are_missing(partial(self.close, *UNACKNOWLEDGED))

    def _forget_acknowledgements(self) -> None:
        if self._acknowledgements is not None:
            self._acknowledgements.stop()
            self._acknowledgements = None

    # ----------------------------------------------------------------------------------------------- closing

    def close(self, code: int, reason: str) -> None:
        """Deliver nothing more from now on, and close the socket."""
        if self.close_code is not None:
            return
        self.close_reason = reason
        self.cancel(code)
        self._hang_up()

    def cancel(self, code: int) -> None:
        """Leave the feed and stop all work, for a socket that is gone or has to go."""
        self.close_code = code
        if self.feed is not None:
            self.feed.remove(self)
            self.feed = None
        self._forget_acknowledgements()
        for task in (self._task, self._reader):
            if task and task is not asyncio.current_task():
                task.cancel()
        self._task = self._reader = None

    def end(self) -> None:
        """Serve this socket no more, and let go of the consumer: together they would wait for the garbage collector."""
        self.is_over = True
        self._hang_up, self.credentials, self._render = _nothing, None, None

    def _lost(self, error: Exception) -> None:
        if self.close_code is not None:
            return
        self.cancel(1006)
        if isinstance(error, OSError):
            logger.debug("the client has gone", extra={"connection_id": self.id})
        else:
            logger.warning(
                "a frame can't be sent", extra={"connection_id": self.id, "error": type(error).__name__}
            )
            self.close_reason = "sending failed"
        # Not left to the server's disconnect message: after a ping that wasn't answered it waits until all is sent.
        self._hang_up()


def _nothing() -> None:
    pass
