"""Sending: one transaction of three statements, whether it comes by a socket, by HTTP or from the host."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from orgrealtime.chat import text, writing
from orgrealtime.chat.conf import get_settings
from orgrealtime.chat.drafts import (
    check_posting,
    checked_attachments,
    checked_client_message_id,
    checked_mentions,
    digest,
    is_text_of,
    members_of,
    mentions_as_json,
    moderated,
    tell_mentioned,
)
from orgrealtime.chat.errors import ChatError, forbidden
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.chat.rules import Draft, get_rules
from orgrealtime.stream import dialect

RATE_SECONDS = 60
BURST_SECONDS = 10
ONCE = "(room_id, author_id, client_message_id) WHERE client_message_id IS NOT NULL"


class Sent(NamedTuple):
    """What has come of sending: the message, and whether it had been there already."""

    message: Message
    duplicate: bool


def send(
    organization: Any,
    actor: Any,
    *,
    room_id: int,
    body: str,
    client_message_id: str | None = None,
    reply_to: int | None = None,
    mentions: Any = (),
    mentions_all: bool = False,
    attachments: Any = (),
) -> Sent:
    """Say something in a room, in the actor's name; three statements in one transaction, four if it mentions users.

    The same `client_message_id` of the same author in the same room returns the message that was first sent with it,
    whatever has become of that, and raises `conflict` if it had another text. Raises ChatError: bad_request, empty,
    too_long, forbidden, archived, moderated, rate_limited and slow_mode, with `retry_after_ms`.
    """
    limits = get_settings()
    draft_body = text.checked_body(body, max_length=limits.MAX_LENGTH, max_bytes=limits.MAX_BYTES)
    sending = _Sending(
        writing.organization_key(organization),
        actor,
        writing.checked_id("room", room_id),
        draft_body,
        checked_client_message_id(client_message_id),
        None if reply_to is None else writing.checked_id("reply_to", reply_to),
        checked_mentions(mentions),
        mentions_all is True,
        checked_attachments(attachments),
    )
    with transaction.atomic(writing.alias()):
        return sending.send()


class _Sending(NamedTuple):
    """A message on its way into a room, checked as far as that can be done without the database."""

    organization_id: Any
    actor: Any
    room_id: int
    body: str
    client_message_id: str | None
    reply_to: int | None
    mentions: list[int | str]
    mentions_all: bool
    attachments: list[Any]

    def send(self) -> Sent:
        """Keep it and publish it, in the transaction that is open."""
        member = self._member()
        first = self._first() if member.first_id is not None else None
        if first is None:
            try:
                draft = self._draft(member)
                message = self._insert(member, draft)
            except ChatError:
                first = self._first()  # it may have been accepted while this transaction waited
                if first is None:
                    raise
            else:
                _publish_message(message, member.room, self.actor)
                return Sent(message, duplicate=False)
        if not is_text_of(self.body, first):
            raise ChatError(
                "conflict",
                "another text was sent with this client_message_id",
                version=first.version,
                body=first.body,
            )
        return Sent(first, duplicate=True)

    def _member(self) -> Any:
        """Return the actor as a member of the room, whose messages wait for each other from here on."""
        members = members_of(self.organization_id, self.actor).filter(room_id=self.room_id)
        here = dialect.of(connections[writing.alias()])
        partner = Member.objects.filter(room_id=OuterRef("room_id")).exclude(
            user_id=writing.user_key(self.actor)
        )
        found = (
            members.select_related("room")
            .select_for_update(of=("self",))
            .annotate(
                turn=here.in_turn(f"orgrealtime.chat {self.organization_id} {writing.user_key(self.actor)}"),
                first_id=Subquery(self._messages_with_id().values("pk")[:1]),
                has_partner=Exists(partner),
            )
        )
        for member in found:
            return member
        raise forbidden()

    def _messages_with_id(self) -> QuerySet[Message]:
        if self.client_message_id is None:
            return Message.objects.none()
        return Message.objects.using(writing.alias()).filter(
            organization_id=self.organization_id,
            room_id=self.room_id,
            author_id=writing.user_key(self.actor),
            client_message_id=self.client_message_id,
        )

    def _first(self) -> Message | None:
        return self._messages_with_id().first()

    def _draft(self, member: Any) -> Draft:
        """Return what is to be posted, as the rules have it."""
        rules, room = get_rules(), member.room
        check_posting(rules, self.actor, room, member)
        if room.is_direct and not member.has_partner:
            raise ChatError("forbidden", "the other one is in this conversation no more")
        attachments = [rules.attachment(self.actor, room, each) for each in self.attachments]
        draft = Draft(room, self.actor, self.body, list(self.mentions), self.mentions_all, attachments)
        return moderated(rules, draft)

    def _insert(self, member: Any, draft: Draft) -> Message:
        room = member.room
        message = Message(
            organization_id=self.organization_id,
            room=room,
            author_id=writing.user_key(self.actor),
            client_message_id=self.client_message_id,
            body=draft.body,
            text_digest=digest(self.body),
            reply_to_id=self.reply_to,
            mentions=draft.mentions,
            mentions_all=draft.mentions_all,
            attachments=draft.attachments,
        )
        limits = list(_limits(member))
        answered = self._answered()
        while True:
            kept = _insert_message(message, only_if=answered, unless=[limit.newest for limit in limits])
            if kept is not None:
                return kept
            for query in answered:
                if not query.exists():
                    raise ChatError("bad_request", "reply_to is no message of this room")
            for limit in limits:
                limit.check()
            if (first := self._first()) is not None:
                raise ChatError("conflict", f"message {first.pk} has this client_message_id")

    def _answered(self) -> list[QuerySet[Any]]:
        if self.reply_to is None:
            return []
        messages = Message.objects.using(writing.alias())
        return [
            messages.filter(
                pk=self.reply_to, organization_id=self.organization_id, room_id=self.room_id
            ).values("pk")
        ]


class _Limit(NamedTuple):
    """At most `limit` messages in so many seconds: `newest` finds the one that leaves no room for another."""

    code: str
    limit: int
    seconds: int
    unit: str
    newest: QuerySet[Any]

    def check(self) -> None:
        """Raise ChatError if it is exceeded."""
        moment: datetime.datetime | None = self.newest.first()
        if moment is None:
            return
        here = dialect.of(connections[writing.alias()])
        (now,) = (
            Room.objects.using(writing.alias()).annotate(now=here.now()).values_list("now", flat=True)[:1]
        )
        left = moment + datetime.timedelta(seconds=self.seconds) - now
        milliseconds = min(max(int(left.total_seconds() * 1000) + 1, 1), self.seconds * 1000)
        raise ChatError(
            self.code,
            f"at most {self.limit} messages in {self.seconds} s {self.unit}",
            limit=self.limit,
            seconds=self.seconds,
            unit=self.unit,
            retry_after_ms=milliseconds,
        )


def _limits(member: Any) -> Iterator[_Limit]:
    """The limits on the messages of a member; moderators have no slow mode."""
    limits, room = get_settings(), member.room
    in_organization = Message.objects.using(writing.alias()).filter(organization_id=room.organization_id)
    own = in_organization.filter(author_id=member.user_id)
    yield _limit("rate_limited", limits.MESSAGES_PER_MINUTE, RATE_SECONDS, "per user", own)
    if room.slow_mode_seconds and not member.moderates:
        yield _limit("slow_mode", 1, room.slow_mode_seconds, "per user in this room", own.filter(room=room))
    of_room = in_organization.filter(room=room)
    yield _limit("rate_limited", limits.ROOM_BURST, BURST_SECONDS, "in this room", of_room)


def _limit(code: str, limit: int, seconds: int, unit: str, messages: QuerySet[Message]) -> _Limit:
    here = dialect.of(connections[writing.alias()])
    since = here.now() - datetime.timedelta(seconds=seconds)
    newest = (
        messages.filter(created_at__gt=since).order_by("-created_at").values_list("created_at", flat=True)
    )
    return _Limit(code, limit, seconds, unit, newest[limit - 1 : limit])


def _insert_message(message: Message, **conditions: Any) -> Message | None:
    here = dialect.of(connections[writing.alias()])
    return writing.insert(
        message,
        conflict=ONCE,
        expressions={"event_id": here.event_id(), "created_at": here.now()},
        **conditions,
    )


def _publish_message(message: Message, room: Room, actor: Any) -> None:
    payload = {
        "message_id": message.pk,
        "client_message_id": message.client_message_id,
        "body": message.body,
        "version": message.version,
        "reply_to": message.reply_to_id,
        "mentions": mentions_as_json(message),
        "mentions_all": message.mentions_all,
        "attachments": message.attachments,
    }
    subject = message.subject
    writing.publish(
        room, "chat.message", payload, pk=message.event_id, actor=actor, subject=subject, entry=True
    )
    tell_mentioned(message, room, actor, message.mentions)


def post(room: Room, text: str, **data: Any) -> Message:
    """Say something in the host's name, in the transaction that is open: one INSERT each for message and event.

    `data` may be `mentions`, `mentions_all`, `attachments` and `reply_to`, as for `send`; no limit on rates holds.
    """
    return _post(room, text, **data)


def _post(
    room: Room,
    body: str,
    *,
    reply_to: int | None = None,
    mentions: Any = (),
    mentions_all: bool = False,
    attachments: Any = (),
) -> Message:
    limits = get_settings()
    message = Message(
        organization_id=room.organization_id,
        room=room,
        body=text.checked_body(body, max_length=limits.MAX_LENGTH, max_bytes=limits.MAX_BYTES),
        reply_to_id=None if reply_to is None else writing.checked_id("reply_to", reply_to),
        mentions=checked_mentions(mentions),
        mentions_all=mentions_all,
        attachments=checked_attachments(attachments),
    )
    with transaction.atomic(writing.alias()):
        kept = _insert_message(message)
        assert kept is not None
        _publish_message(kept, room, None)
    return kept
