"""Saying something, changing and deleting it, and reacting to it."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from django.conf import settings as django_settings
from django.db import connections, transaction
from django.db.models import Exists, OuterRef, QuerySet, Subquery
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from orgrealtime import stream
from orgrealtime.chat import text, writing
from orgrealtime.chat.conf import get_settings
from orgrealtime.chat.errors import ChatError, forbidden
from orgrealtime.chat.models import MAX_CLIENT_MESSAGE_ID, MAX_EMOJI, Member, Message, Reaction, Room
from orgrealtime.chat.rules import Draft, Rules, get_rules
from orgrealtime.errors import PayloadError
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.protocol.payloads import check_value
from orgrealtime.stream import dialect

MAX_ATTACHMENTS = 10
MAX_EMOJI_KINDS = 20
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
        _checked_client_message_id(client_message_id),
        None if reply_to is None else writing.checked_id("reply_to", reply_to),
        _checked_mentions(mentions),
        mentions_all is True,
        _checked_attachments(attachments),
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
        first = self._first() if member.first_id is not None else None  # type: ignore[attr-defined]
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
        if not _is_text_of(self.body, first):
            raise ChatError(
                "conflict",
                "another text was sent with this client_message_id",
                version=first.version,
                body=first.body,
            )
        return Sent(first, duplicate=True)

    def _member(self) -> Any:
        """Return the actor as a member of the room, whose messages wait for each other from here on."""
        members = _members(self.organization_id, self.actor).filter(room_id=self.room_id)
        here = dialect.of(connections[writing.alias()])
        partner = Member.objects.filter(room_id=OuterRef("room_id")).exclude(user_id=self.actor.pk)
        found = (
            members.select_related("room")
            .select_for_update(of=("self",))
            .annotate(
                turn=here.in_turn(f"orgrealtime.chat {self.organization_id} {self.actor.pk}"),
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
            author_id=self.actor.pk,
            client_message_id=self.client_message_id,
        )

    def _first(self) -> Message | None:
        return self._messages_with_id().first()

    def _draft(self, member: Any) -> Draft:
        """Return what is to be posted, as the rules have it."""
        rules, room = get_rules(), member.room
        _check_posting(rules, self.actor, room, member)
        if room.is_direct and not member.has_partner:
            raise ChatError("forbidden", "the other one is in this conversation no more")
        attachments = [rules.attachment(self.actor, room, each) for each in self.attachments]
        draft = Draft(room, self.actor, self.body, list(self.mentions), self.mentions_all, attachments)
        return _moderated(rules, draft)

    def _insert(self, member: Any, draft: Draft) -> Message:
        room = member.room
        message = Message(
            organization_id=self.organization_id,
            room=room,
            author_id=self.actor.pk,
            client_message_id=self.client_message_id,
            body=draft.body,
            text_digest=_digest(self.body),
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
        "mentions": _mentions_as_json(message),
        "mentions_all": message.mentions_all,
        "attachments": message.attachments,
    }
    subject = message.subject
    writing.publish(
        room, "chat.message", payload, pk=message.event_id, actor=actor, subject=subject, entry=True
    )
    _mention(message, room, actor, message.mentions)


def _mention(message: Message, room: Room, actor: Any, mentions: list[int | str]) -> None:
    """Tell those of the room whom a message names; the topic keeps it from all others."""
    own = None if actor is None else writing.stored_key(actor)
    to = [writing.pk_of(each) for each in mentions if each != own]
    if to:
        payload = {
            "message_id": message.pk,
            "body": message.body,
            "by": None if actor is None else key_as_json(actor.pk),
        }
        writing.publish(
            room, "chat.mention", payload, actor=actor, to=to, category="mention", subject=message.subject
        )


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
        mentions=_checked_mentions(mentions),
        mentions_all=mentions_all,
        attachments=_checked_attachments(attachments),
    )
    with transaction.atomic(writing.alias()):
        kept = _insert_message(message)
        assert kept is not None
        _publish_message(kept, room, None)
    return kept


def edit(
    organization: Any,
    actor: Any,
    *,
    message_id: int,
    body: str,
    version: int | None = None,
    mentions: Any = (),
) -> Message:
    """Have a message say something else; with a `version` only if it is still that one.

    Afterwards the text of before is nowhere. Raises ChatError as `send`, and `conflict` with version and body of now.
    """
    limits = get_settings()
    body = text.checked_body(body, max_length=limits.MAX_LENGTH, max_bytes=limits.MAX_BYTES)
    named = _checked_mentions(mentions)
    rules, using = get_rules(), writing.alias()
    with transaction.atomic(using):
        message, member = _locked_message(organization, actor, message_id)
        if not rules.can_edit(actor, message.room, message):
            raise forbidden()
        _check_posting(rules, actor, message.room, member)
        _check_version(message, version)
        if message.is_deleted:
            raise _conflict(message)
        draft = Draft(
            message.room, actor, body, named, message.mentions_all, message.attachments, message=message
        )
        draft = _moderated(rules, draft)
        new = [each for each in draft.mentions if each not in message.mentions]
        message.body, message.mentions = draft.body, draft.mentions
        message.version += 1
        message.edited_at = timezone.now()
        message.save(using=using, update_fields=["body", "mentions", "version", "edited_at"])
        said = {"body": message.body, "version": message.version, "mentions": _mentions_as_json(message)}
        stream.scrub(message.organization_id, message.subject, said, using)
        payload = {"message_id": message.pk, **said}
        writing.publish(
            message.room, "chat.edited", payload, actor=actor, subject=message.subject, replaces=True
        )
        _mention(message, message.room, actor, new)
    return message


def delete(organization: Any, actor: Any, *, message_id: int, version: int | None = None) -> Message:
    """Leave nothing of a message but its place; its author may, and who moderates the room, and the host (None).

    Of one that is deleted already it stays as it is. Raises ChatError: forbidden, conflict.
    """
    rules = get_rules()
    with transaction.atomic(writing.alias()):
        message, member = _locked_message(organization, actor, message_id)
        if actor is not None:
            is_own = message.author_id is not None and message.author_id == actor.pk
            if not is_own and not rules.can_moderate(actor, message.room, member, message):
                raise forbidden()
        if not message.is_deleted:
            _check_version(message, version)
            empty(message, actor)
    return message


def empty(message: Message, actor: Any) -> None:
    """Make a tombstone of a message that is locked, in the transaction that is open."""
    using = writing.alias()
    message.body = message.text_digest = ""
    message.mentions, message.attachments = [], []
    message.version += 1
    message.deleted_at = timezone.now()
    message.deleted_by_id = None if actor is None else actor.pk
    message.save(
        using=using,
        update_fields=[
            *("body", "text_digest", "mentions", "attachments", "version", "deleted_at", "deleted_by"),
        ],
    )
    patch = {"body": "", "attachments": [], "mentions": [], "version": message.version}
    stream.scrub(message.organization_id, message.subject, patch, using)
    payload = {
        "message_id": message.pk,
        "version": message.version,
        "deleted_by": None if actor is None else key_as_json(actor.pk),
    }
    writing.publish(
        message.room, "chat.deleted", payload, actor=actor, subject=message.subject, replaces=True
    )


def react(organization: Any, actor: Any, *, message_id: int, emoji: str, on: bool = True) -> None:
    """Put an emoji to a message, or take it away; what is so already stays so, and nobody is told.

    Raises ChatError: bad_request, also beyond 20 kinds of emoji at one message, forbidden, archived.
    """
    emoji = text.checked_line("emoji", emoji, max_length=MAX_EMOJI)
    using = writing.alias()
    with transaction.atomic(using):
        message, member = _locked_message(organization, actor, message_id)
        _check_posting(get_rules(), actor, message.room, member)
        if message.is_deleted:
            raise _conflict(message)
        if on:
            changed = _add_reaction(message, actor, emoji)
        else:
            own = Reaction.objects.using(using).filter(message=message, user_id=actor.pk, emoji=emoji)
            changed = bool(own.delete()[0])
        if changed:
            payload = {"message_id": message.pk, "user": key_as_json(actor.pk), "emoji": emoji, "on": on}
            writing.publish(message.room, "chat.reaction", payload, actor=actor)


def _add_reaction(message: Message, actor: Any, emoji: str) -> bool:
    # The message is locked: nobody adds a kind meanwhile.
    others = Reaction.objects.using(writing.alias()).filter(message=message)
    kinds = set(others.values_list("emoji", flat=True).distinct())
    if emoji not in kinds and len(kinds) >= MAX_EMOJI_KINDS:
        raise ChatError(
            "bad_request",
            f"at most {MAX_EMOJI_KINDS} kinds of emoji at a message",
            limit=MAX_EMOJI_KINDS,
            unit="kinds of emoji",
        )
    reaction = Reaction(
        organization_id=message.organization_id, message=message, user_id=actor.pk, emoji=emoji
    )
    return writing.insert(reaction, conflict="(message_id, user_id, emoji)") is not None


# What all of them ask.


def _members(organization_id: Any, actor: Any) -> QuerySet[Member]:
    if actor is None:
        raise TypeError("this is done in somebody's name: actor is a user")
    return Member.objects.using(writing.alias()).filter(
        organization_id=organization_id, user_id=actor.pk, room__organization_id=organization_id
    )


def _locked_message(organization: Any, actor: Any, message_id: int) -> tuple[Message, Any]:
    """Return a message, locked until the end of the transaction, and the actor as a member of its room.

    The host (None) is no member, and finds every message of the organisation.
    """
    pk = writing.checked_id("message_id", message_id)
    organization_id = writing.organization_key(organization)
    messages = Message.objects.using(writing.alias()).filter(
        pk=pk, organization_id=organization_id, room__organization_id=organization_id
    )
    member = None
    if actor is not None:
        member = (
            _members(organization_id, actor).filter(room__messages=pk).select_for_update(of=("self",)).first()
        )
        if member is None:
            raise forbidden()
    message = messages.select_related("room").select_for_update(of=("self",)).first()
    if message is None:
        raise forbidden()
    return message, member


def _check_posting(rules: Rules, actor: Any, room: Room, member: Member) -> None:
    if not rules.can_post(actor, room, member):
        raise forbidden()
    if room.archived_at is not None:
        raise ChatError("archived", "the room is archived: it can be read, and nothing is added")


def _check_version(message: Message, version: int | None) -> None:
    if version is not None and version != message.version:
        raise _conflict(message)


def _conflict(message: Message) -> ChatError:
    what = "has been deleted" if message.is_deleted else f"is at version {message.version}"
    return ChatError("conflict", f"the message {what}", version=message.version, body=message.body)


def _moderated(rules: Rules, draft: Draft) -> Draft:
    """Return a draft as the rules let it pass."""
    first = replace(draft)
    passed = rules.moderate(draft)
    if passed is None:
        raise ChatError("moderated", "the message was refused by the rules of this site")
    if passed.body != first.body:
        limits = get_settings()
        passed.body = text.checked_body(passed.body, max_length=limits.MAX_LENGTH, max_bytes=limits.MAX_BYTES)
    return passed


def _mentions_as_json(message: Message) -> list[int | str]:
    return writing.as_keys(writing.pk_of(each) for each in message.mentions)


def _digest(body: str, secret: str | None = None) -> str:
    return salted_hmac("orgrealtime.chat.text", body, secret=secret, algorithm="sha256").hexdigest()


def _is_text_of(body: str, message: Message) -> bool:
    """Tell whether this is the text that a message was first sent with; of a tombstone nobody knows any more."""
    if message.is_deleted:
        return True
    secrets = (None, *django_settings.SECRET_KEY_FALLBACKS)
    return any(constant_time_compare(_digest(body, secret), message.text_digest) for secret in secrets)


def _checked_client_message_id(given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str) or not 0 < len(given) <= MAX_CLIENT_MESSAGE_ID or not given.isprintable():
        raise ChatError(
            "bad_request",
            f"client_message_id is a text of 1 to {MAX_CLIENT_MESSAGE_ID} printable characters, not {given!r:.80}",
        )
    return given


def _checked_mentions(given: Any) -> list[int | str]:
    """Return the stored keys of users who are named, each once."""
    most = get_settings().MAX_MENTIONS
    if not isinstance(given, list | tuple):
        raise ChatError("bad_request", f"mentions is a list of users, not {given!r:.60}")
    if len(given) > most:
        raise ChatError(
            "bad_request", f"mentions has {len(given)} users; at most {most}", limit=most, length=len(given)
        )
    try:
        return list(dict.fromkeys(map(writing.stored_key, given)))
    except Exception:  # a host's field may raise anything
        raise ChatError("bad_request", f"mentions has what is no user: {given!r:.80}") from None


def _checked_attachments(given: Any) -> list[Any]:
    if not isinstance(given, list | tuple):
        raise ChatError("bad_request", f"attachments is a list, not {given!r:.60}")
    if len(given) > MAX_ATTACHMENTS:
        raise ChatError(
            "bad_request",
            f"attachments has {len(given)} members; at most {MAX_ATTACHMENTS}",
            limit=MAX_ATTACHMENTS,
            length=len(given),
        )
    try:
        check_value(list(given))
    except PayloadError as error:
        raise ChatError("bad_request", f"attachments: {error}") from None
    return list(given)
