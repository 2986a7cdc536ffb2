"""Changing and deleting what has been said, and reacting to it."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from orgrealtime import stream
from orgrealtime.chat import text, writing
from orgrealtime.chat.conf import get_settings
from orgrealtime.chat.drafts import (
    check_posting,
    checked_mentions,
    members_of,
    mentions_as_json,
    moderated,
    tell_mentioned,
)
from orgrealtime.chat.errors import ChatError, forbidden
from orgrealtime.chat.models import MAX_EMOJI, Message, Reaction
from orgrealtime.chat.rules import Draft, get_rules
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol.keys import key_as_json

MAX_EMOJI_KINDS = 20
MAX_CHANGES = 100  # of one message: each is written into the events of all before it
EMPTY = {"body": "", "attachments": [], "mentions": []}  # what is left of what events have said


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

    Afterwards the text of before is nowhere. Raises ChatError as `send`, `conflict` with version and body of now, and
    bad_request after 100 changes.
    """
    limits = get_settings()
    body = text.checked_body(body, max_length=limits.MAX_LENGTH, max_bytes=limits.MAX_BYTES)
    named = checked_mentions(mentions)
    rules, using = get_rules(), writing.alias()
    with transaction.atomic(using):
        message, member = _locked_message(organization, actor, message_id)
        if not rules.can_edit(actor, message.room, message):
            raise forbidden()
        check_posting(rules, actor, message.room, member)
        _check_version(message, version)
        if message.is_deleted:
            raise _conflict(message)
        if message.version > MAX_CHANGES:
            raise ChatError(
                "bad_request",
                f"a message is changed at most {MAX_CHANGES} times",
                limit=MAX_CHANGES,
                unit="changes of a message",
            )
        draft = Draft(
            message.room, actor, body, named, message.mentions_all, message.attachments, message=message
        )
        draft = moderated(rules, draft)
        new = [each for each in draft.mentions if each not in message.mentions]
        message.body, message.mentions = draft.body, draft.mentions
        message.version += 1
        message.edited_at = timezone.now()
        message.save(using=using, update_fields=["body", "mentions", "version", "edited_at"])
        said = {"body": message.body, "version": message.version, "mentions": mentions_as_json(message)}
        stream.scrub(message.organization_id, message.subject, said, using)
        payload = {"message_id": message.pk, **said}
        writing.publish(
            message.room, "chat.edited", payload, actor=actor, subject=message.subject, replaces=True
        )
        tell_mentioned(message, message.room, actor, _not_told_yet(message, new))
    return message


def _not_told_yet(message: Message, mentions: list[int | str]) -> list[int | str]:
    """Return those of the users whom a message names to whom it hasn't said so before, in another version."""
    if not mentions:
        return mentions
    told = NotificationEvent.objects.using(writing.alias()).filter(
        organization_id=message.organization_id, subject=message.subject, type="chat.mention"
    )
    before = {stored for audience in told.values_list("audience", flat=True) for stored in audience or ()}
    return [each for each in mentions if each not in before]


def delete(organization: Any, actor: Any, *, message_id: int, version: int | None = None) -> Message:
    """Leave nothing of a message but its place; its author may, and who moderates the room, and the host (None).

    Of one that is deleted already it stays as it is. Raises ChatError: forbidden, conflict.
    """
    rules = get_rules()
    with transaction.atomic(writing.alias()):
        message, member = _locked_message(organization, actor, message_id)
        if actor is not None:
            is_own = message.author_id is not None and message.author_id == writing.user_key(actor)
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
    message.deleted_by_id = None if actor is None else writing.user_key(actor)
    message.save(
        using=using,
        update_fields=[
            *("body", "text_digest", "mentions", "attachments", "version", "deleted_at", "deleted_by"),
        ],
    )
    message.reactions.using(using)._raw_delete(using)
    stream.scrub(message.organization_id, message.subject, {**EMPTY, "version": message.version}, using)
    tell_deleted(message, message.version, actor)


def tell_deleted(message: Message, version: int, actor: Any) -> None:
    """Tell the room that a message is gone, and have nobody get what was said any more."""
    payload = {
        "message_id": message.pk,
        "version": version,
        "deleted_by": None if actor is None else key_as_json(writing.user_key(actor)),
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
        check_posting(get_rules(), actor, message.room, member)
        if message.is_deleted:
            raise _conflict(message)
        if on:
            changed = _add_reaction(message, actor, emoji)
        else:
            own = Reaction.objects.using(using).filter(
                message=message, user_id=writing.user_key(actor), emoji=emoji
            )
            changed = bool(own.delete()[0])
        if changed:
            payload = {
                "message_id": message.pk,
                "user": key_as_json(writing.user_key(actor)),
                "emoji": emoji,
                "on": on,
            }
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
        organization_id=message.organization_id, message=message, user_id=writing.user_key(actor), emoji=emoji
    )
    return writing.insert(reaction, conflict="(message_id, user_id, emoji)") is not None


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
            members_of(organization_id, actor)
            .filter(room__messages=pk)
            .select_for_update(of=("self",))
            .first()
        )
        if member is None:
            raise forbidden()
    message = messages.select_related("room").select_for_update(of=("self",)).first()
    if message is None:
        raise forbidden()
    return message, member


def _check_version(message: Message, version: int | None) -> None:
    if version is not None and writing.checked_id("version", version) != message.version:
        raise _conflict(message)


def _conflict(message: Message) -> ChatError:
    what = "has been deleted" if message.is_deleted else f"is at version {message.version}"
    return ChatError("conflict", f"the message {what}", version=message.version, body=message.body)
