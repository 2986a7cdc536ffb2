"""The history of a room, by pages: in the order of the stream, whatever of it has been pruned."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import Count, F, Min, Q, Window
from django.db.models.functions import RowNumber

from orgrealtime import stream
from orgrealtime.chat import writing
from orgrealtime.chat.errors import ChatError
from orgrealtime.chat.models import Member, Message, Reaction, Room
from orgrealtime.chat.rooms import find_room
from orgrealtime.chat.shapes import as_json
from orgrealtime.models import Entry, Stream
from orgrealtime.protocol.keys import key_as_json

PAGE_SIZE = 50
MAX_PAGE_SIZE = 100
NEWEST = 2**63 - 1
NAMED = 50  # of those who have reacted in the same way


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Consecutive messages as JSON, oldest first; what comes live after `cursor` is in no page before it.

    Messages that came meanwhile may be in both.
    """

    messages: list[dict[str, Any]]
    cursor: str
    has_older: bool
    has_newer: bool

    def as_json(self) -> dict[str, Any]:
        """Return it as HTTP shows it."""
        return {
            "messages": self.messages,
            "cursor": self.cursor,
            "has_older": self.has_older,
            "has_newer": self.has_newer,
        }


def read(
    organization: Any,
    user: Any,
    *,
    room_id: int,
    before: int | None = None,
    after: int | None = None,
    around: int | None = None,
    limit: int = PAGE_SIZE,
) -> HistoryPage:
    """Return a page of a room's history: the newest, or those before, after or around a message's `position`.

    At most `limit` messages (1 to 100), and as many as there are. Tombstones are among them. Raises ChatError,
    forbidden, as `find_room`, and bad_request.
    """
    given = [each for each in (before, after, around) if each is not None]
    if len(given) > 1:
        raise ChatError("bad_request", "only one of before, after and around")
    if any(type(each) is not int or not 0 <= each < 2**63 for each in given):
        raise ChatError("bad_request", f"a position is a whole number, not {given[0]!r:.60}")
    if type(limit) is not int or not 1 <= limit <= MAX_PAGE_SIZE:
        raise ChatError(
            "bad_request", f"limit is 1 to {MAX_PAGE_SIZE}, not {limit!r:.60}", limit=MAX_PAGE_SIZE
        )
    room = find_room(organization, user, room_id=room_id)
    # The cursor first: what comes after it is told live, and what was before is in the rows.
    cursor = stream.position(writing.as_organization(room.organization_id), writing.alias()).cursor
    entries = _Entries(room, _beginning(room, user))
    before = NEWEST if before is None else before
    if around is not None:
        rows = [
            *reversed(entries.select("< %s", around, "DESC", limit // 2)),
            *entries.select(">= %s", around, "ASC", limit - limit // 2),
        ]
    elif after is not None:
        rows = entries.select("> %s", after, "ASC", limit)
    else:
        rows = entries.select("< %s", before, "DESC", limit)[::-1]
    if rows:
        first, last = rows[0].seq, rows[-1].seq
    else:  # beyond an end, or there is nothing at all
        first, last = (0, before - 1) if after is None else (after + 1, after)
    has_older, has_newer = entries.beyond(first, last)
    return HistoryPage(_shown(rows, user), cursor, has_older, has_newer)


def _beginning(room: Room, user: Any) -> int:
    """Return the number from which on a room's history is somebody's to read."""
    if room.history == Room.History.ALL:
        return 0
    using = writing.alias()
    own = Member.objects.using(using).filter(room=room, user_id=writing.user_key(user)).values("joined_event")
    joined = Entry.objects.using(using).filter(
        organization_id=room.organization_id, collection=room.topic, event_id__in=own
    )
    seq: int | None = joined.values_list("seq", flat=True).first()
    return NEWEST if seq is None else seq


@dataclass(frozen=True, slots=True)
class _Entries:
    """The messages of a room by their numbers in the stream, from one on."""

    room: Room
    beginning: int

    def select(self, condition: str, seq: int, order: str, limit: int) -> list[Any]:
        """Return messages, each with its `seq`, from the nearest on."""
        sql = f"""
            SELECT message.*, entry.seq {self._source()} AND entry.seq {condition}
            ORDER BY entry.seq {order} LIMIT {limit}
        """
        messages = Message.objects.using(writing.alias()).raw(sql, [*self._params(), seq])
        return list(messages)

    def beyond(self, first: int, last: int) -> tuple[bool, bool]:
        """Tell whether there are messages before a number, and after another."""
        source, params = self._source(), self._params()
        with connections[writing.alias()].cursor() as cursor:
            cursor.execute(
                f"SELECT EXISTS (SELECT 1 {source} AND entry.seq < %s), EXISTS (SELECT 1 {source} AND entry.seq > %s)",
                [*params, first, *params, last],
            )
            older, newer = cursor.fetchone()
        return bool(older), bool(newer)

    def _source(self) -> str:
        # The messages by themselves, and not only by the entries: of both it is certain whose they are.
        return f"""
            FROM {Entry._meta.db_table} AS entry
                JOIN {Message._meta.db_table} AS message ON message.event_id = entry.event_id
            WHERE entry.organization_id = %s AND entry.collection = %s AND message.room_id = %s AND entry.seq >= %s
        """

    def _params(self) -> list[Any]:
        key = Stream._meta.pk.get_db_prep_value(self.room.organization_id, connections[writing.alias()])
        return [key, self.room.topic, self.room.pk, self.beginning]


def _shown(rows: Collection[Any], reader: Any) -> list[dict[str, Any]]:
    reactions = _reactions([row.pk for row in rows], reader)
    return [as_json(row, row.seq, reader=reader, reactions=reactions.get(row.pk, ())) for row in rows]


def _reactions(message_ids: Collection[int], reader: Any) -> dict[int, list[dict[str, Any]]]:
    """Return what was put to messages, the oldest first, and who did: the first `NAMED` of them."""
    if not message_ids:
        return {}
    alike = [F("message_id"), F("emoji")]
    rows = (
        Reaction.objects.using(writing.alias())
        .filter(message_id__in=message_ids)
        .annotate(
            count=Window(Count("pk"), alike),
            own=Window(Count("pk", filter=Q(user_id=writing.user_key(reader))), alike),
            first=Window(Min("pk"), alike),
            number=Window(RowNumber(), alike, "pk"),
        )
        .filter(number__lte=NAMED)
        .order_by("first", "pk")
        .values_list("message_id", "emoji", "user_id", "count", "own")
    )
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for message_id, emoji, user_id, count, own in rows:
        shown = {"emoji": emoji, "count": count, "mine": bool(own), "users": []}
        users = found.setdefault(message_id, {}).setdefault(emoji, shown)["users"]
        users.append(key_as_json(user_id))
    return {message_id: list(shown.values()) for message_id, shown in found.items()}
