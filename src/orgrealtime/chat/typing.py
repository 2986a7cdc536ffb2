"""Who types in a room: rows with an end, told from process to process by hints, and to clients by frames.

No content goes through the channel layer, and nothing is told while it isn't proved to ring. All ends by itself: what
is lost is a frame too few, or one that comes some seconds late.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db import models
from django.db.models import DurationField, ExpressionWrapper, F
from django.db.models.functions import Now

from orgrealtime.chat.errors import ChatError, forbidden
from orgrealtime.chat.models import Member, Typing, topic_of
from orgrealtime.concurrency import background
from orgrealtime.concurrency.batching import Conflator
from orgrealtime.delivery import bell
from orgrealtime.delivery.connection import Connection
from orgrealtime.delivery.hub import Hub
from orgrealtime.keys import StoredKey, organization_keys, user_keys
from orgrealtime.protocol import wire
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.stream.database import COMMANDS, LIVE, alias

logger = logging.getLogger("orgrealtime.typing")

HINT = "typing"
MAX_WATCHED = 3  # rooms of one connection
MAX_NAMES = 5  # in one frame
TYPING_SECONDS = 6.0  # after the last time that a client says so
WRITE_SECONDS = 3.0  # between two rows of one user in one room
GATHER_SECONDS = 0.3
REPEAT_SECONDS = 2.5  # between two frames that say the same: readers forget after 8 seconds
MAX_REMEMBERED = 10_000


class Typist(NamedTuple):
    """Somebody who types: the key as it is stored and as it travels, and until when by two clocks."""

    user: StoredKey
    name: int | str
    until: datetime.datetime
    ends_at: float


class _Watched:
    """A room that connections of this hub watch."""

    def __init__(self, organization_id: Any) -> None:
        self.organization_id = organization_id
        self.organization = organization_keys().name(organization_id)
        self.connections: set[Connection] = set()
        self.shown: set[Connection] = set()  # whose last frame named somebody
        self.typists: list[Typist] = []
        self.told_at = 0.0


class TypingService:
    """Knows which connections of a hub watch which rooms, and tells them who types there."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._loop = asyncio.get_running_loop()
        self._watched: dict[int, _Watched] = {}
        self._rooms: dict[Connection, set[int]] = {}
        self._written: dict[tuple[StoredKey, int], float] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._due = Conflator[str](self._look, self._start_task, gather_seconds=GATHER_SECONDS)
        self._timer: asyncio.TimerHandle | None = None
        hub.registry.observe(self)
        hub.subscribe(HINT, lambda hint: self._hear(hint.organization or ""))

    async def close(self) -> None:
        """End all work."""
        if self._timer is not None:
            self._timer.cancel()
        await background.end(self._tasks)

    # ------------------------------------------------------------------------------------------------ watching

    def watch(self, connection: Connection, room_id: int) -> None:
        """Tell a connection from now on who types in a room.

        Raises ChatError: forbidden if its user isn't in the room, bad_request for one room too many.
        """
        _check_topic(connection, room_id)
        rooms = self._rooms.get(connection, set())
        if room_id not in rooms and len(rooms) >= MAX_WATCHED:
            raise ChatError(
                "bad_request", f"a connection watches at most {MAX_WATCHED} rooms", limit=MAX_WATCHED
            )
        if connection.close_code is not None:
            return
        self._rooms[connection] = rooms | {room_id}
        watched = self._watched.get(room_id)
        if watched is None:
            watched = self._watched[room_id] = _Watched(connection.access.organization_id)
            self._hear(watched.organization)
        watched.connections.add(connection)
        if watched.typists:
            self._tell(room_id, watched, [connection])

    def unwatch(self, connection: Connection, room_id: int) -> None:
        """Tell a connection no more who types in a room."""
        self._rooms.get(connection, set()).discard(room_id)
        self._forget(connection, room_id)

    def on_join(self, connection: Connection) -> None:
        """Nothing: it watches no room yet."""

    def on_leave(self, connection: Connection) -> None:
        """Forget what a connection watched."""
        for room_id in self._rooms.pop(connection, ()):
            self._forget(connection, room_id)

    def _forget(self, connection: Connection, room_id: int) -> None:
        watched = self._watched.get(room_id)
        if watched is not None:
            watched.connections.discard(connection)
            watched.shown.discard(connection)
            if not watched.connections:
                del self._watched[room_id]

    # ------------------------------------------------------------------------------------------------- writing

    async def start(self, connection: Connection, room_id: int) -> None:
        """Note that the user of a connection types in a room; raise ChatError if it isn't theirs."""
        _check_topic(connection, room_id)
        access, now = connection.access, self._loop.time()
        key = (access.user_key, room_id)
        if not self._hub.is_rung_for or now - self._written.get(key, -WRITE_SECONDS) < WRITE_SECONDS:
            return
        if len(self._written) >= MAX_REMEMBERED:
            self._written.clear()  # costs at most a row too many for each user
        self._written[key] = now
        await COMMANDS.run(_write, access.organization_id, access.user_id, room_id)
        bell.tell(access.organization_id, HINT)

    async def stop(self, connection: Connection, room_id: int) -> None:
        """Note that the user of a connection, who typed here a moment ago, doesn't any more."""
        access = connection.access
        written_at = self._written.pop((access.user_key, room_id), None)
        if written_at is None or self._loop.time() - written_at > TYPING_SECONDS:
            return
        await COMMANDS.run(_delete, access.organization_id, access.user_id, room_id)
        bell.tell(access.organization_id, HINT)

    # ------------------------------------------------------------------------------------------------- telling

    def _hear(self, organization: str) -> None:
        if self._hub.is_rung_for and any(
            each.organization == organization for each in self._watched.values()
        ):
            self._due.add([organization])

    async def _look(self, organizations: Sequence[str]) -> None:
        """Ask who types in the rooms of these organisations that are watched here: one query for all."""
        rooms = {
            room_id: each
            for room_id, each in tuple(self._watched.items())
            if each.organization in organizations
        }
        if not rooms:
            return
        try:
            rows = await LIVE.run(_read, {each.organization_id for each in rooms.values()}, list(rooms))
        except Exception as error:
            logger.warning("who types can't be asked", extra={"error": type(error).__name__})
            return
        if not self._hub.is_rung_for:
            return
        now = self._loop.time()
        found: dict[int, list[Typist]] = {}
        for room_id, user_id, until, left in rows:
            ends_at = now + min(left.total_seconds(), TYPING_SECONDS)
            typist = Typist(user_keys().stored_or_text(user_id), key_as_json(user_id), until, ends_at)
            found.setdefault(room_id, []).append(typist)
        for room_id, watched in rooms.items():
            self._take(room_id, watched, found.get(room_id, []))
        self._set_timer()

    def _take(self, room_id: int, watched: _Watched, typists: list[Typist]) -> None:
        before, watched.typists = watched.typists, typists
        has_changed = [each.user for each in before] != [each.user for each in typists]
        has_gone_on = [each.until for each in before] != [each.until for each in typists]
        if has_changed or (has_gone_on and self._loop.time() - watched.told_at >= REPEAT_SECONDS):
            watched.told_at = self._loop.time()
            self._tell(room_id, watched, tuple(watched.connections))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ends = [typist.ends_at for each in self._watched.values() for typist in each.typists]
        if ends:
            self._timer = self._loop.call_at(min(ends), self._end_typing)

    def _end_typing(self) -> None:
        now = self._loop.time()
        for room_id, watched in tuple(self._watched.items()):
            left = [typist for typist in watched.typists if typist.ends_at > now]
            if len(left) < len(watched.typists):
                self._take(room_id, watched, left)
        self._set_timer()

    def _tell(self, room_id: int, watched: _Watched, connections: Sequence[Connection]) -> None:
        topic = topic_of(room_id)
        frames: dict[StoredKey | None, str] = {}
        typing = {each.user for each in watched.typists}
        for connection in connections:
            access = connection.access
            if connection.held is not None or topic not in access.topics:
                continue
            own = access.user_key if access.user_key in typing else None
            has_others = len(typing) > (own is not None)
            if not has_others and connection not in watched.shown:
                continue
            if own not in frames:
                frames[own] = _frame(room_id, [each.name for each in watched.typists if each.user != own])
            (watched.shown.add if has_others else watched.shown.discard)(connection)
            connection.reply(frames[own])

    def _start_task(self, work: Any) -> None:
        background.start(work, self._tasks)


def _check_topic(connection: Connection, room_id: int) -> None:
    if topic_of(room_id) not in connection.access.topics:
        raise forbidden()


def _frame(room_id: int, names: list[int | str]) -> str:
    frame = {"type": "chat.typing", "room": room_id, "users": names[:MAX_NAMES], "count": len(names)}
    return wire.encode(frame)


def _write(organization_id: Any, user_id: Any, room_id: int) -> None:
    members = Member.objects.using(alias()).filter(
        organization_id=organization_id, room_id=room_id, user_id=user_id, room__archived_at=None
    )
    if not members.exclude(role=Member.Role.READONLY).exists():
        raise forbidden()
    until = ExpressionWrapper(
        Now() + datetime.timedelta(seconds=TYPING_SECONDS), output_field=models.DateTimeField()
    )
    Typing.objects.using(alias()).bulk_create(
        [Typing(organization_id=organization_id, room_id=room_id, user_id=user_id, until=until)],
        update_conflicts=True,
        unique_fields=["room", "user"],
        update_fields=["until"],
    )


def _delete(organization_id: Any, user_id: Any, room_id: int) -> None:
    rows = Typing.objects.using(alias())
    rows.filter(organization_id=organization_id, room_id=room_id, user_id=user_id).delete()


def _read(organization_ids: set[Any], room_ids: list[int]) -> list[tuple[int, Any, datetime.datetime, Any]]:
    rows = Typing.objects.using(alias()).filter(organization_id__in=organization_ids, room_id__in=room_ids)
    left = ExpressionWrapper(F("until") - Now(), output_field=DurationField())
    rows = rows.filter(until__gt=Now()).annotate(left=left).order_by("pk")
    return list(rows.values_list("room_id", "user_id", "until", "left"))
