"""Erasing a person from an organisation's rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from orgrealtime import stream
from orgrealtime.chat import writing
from orgrealtime.chat.drafts import mentions_as_json
from orgrealtime.chat.messages import empty
from orgrealtime.chat.models import Message, Reaction, Room, Typing
from orgrealtime.chat.rooms import leave_all
from orgrealtime.protocol.keys import key_as_json

BATCH = 100


def erase(user: Any, organization: Any, *, anonymise: bool = False) -> None:
    """Erase a person from an organisation's rooms: what was said, reactions, mentions, and being in them.

    Afterwards nothing in the database has a text of theirs; or, to `anonymise`, the texts stay and nothing says whose
    they are. In several transactions: call it again if it was interrupted, and not inside one of your own if there is
    much to erase.
    """
    organization_id, using = writing.organization_key(organization), writing.alias()
    leave_all(organization_id, user)  # first: nothing is added meanwhile
    own = Message.objects.using(using).filter(
        organization_id=organization_id, author_id=writing.user_key(user)
    )
    if anonymise:
        _each_locked(own, lambda message: _forget_author(message, user))
    else:
        _each_locked(own.filter(deleted_at=None), lambda message: empty(message, None))
    _take_back_reactions(organization_id, user)
    Typing.objects.using(using).filter(
        organization_id=organization_id, user_id=writing.user_key(user)
    ).delete()
    for message_id in _naming(organization_id, user):
        named = Message.objects.using(using).filter(pk=message_id)
        with transaction.atomic(using):
            for message in named.select_for_update():
                _forget_mention(message, user)
    rooms = Room.objects.using(using).filter(
        organization_id=organization_id, created_by_id=writing.user_key(user)
    )
    rooms.update(created_by=None)
    deleted = Message.objects.using(using).filter(
        organization_id=organization_id, deleted_by_id=writing.user_key(user)
    )
    deleted.update(deleted_by=None)


def _each_locked(messages: QuerySet[Message], work: Callable[[Message], None]) -> None:
    """Do something to messages after which they aren't among these any more, a batch in a transaction."""
    batch: list[Message] = [Message()]
    while batch:
        with transaction.atomic(writing.alias()):
            batch = list(
                messages.select_related("room").select_for_update(of=("self",)).order_by("pk")[:BATCH]
            )
            for message in batch:
                work(message)


def _forget_author(message: Message, user: Any) -> None:
    using = writing.alias()
    message.author = None
    message.client_message_id = None
    message.version += 1
    message.save(using=using, update_fields=["author", "client_message_id", "version"])
    patch = {"by": None, "client_message_id": None, "version": message.version}
    stream.scrub(message.organization_id, message.subject, patch, using)
    stream.forget_actor(
        message.organization_id, message.subject, writing.user_key(user), message.event_id, using
    )
    more: dict[str, Any]
    if message.is_deleted:
        type, more = "chat.deleted", {"deleted_by": None}
    else:
        type, more = "chat.edited", {"body": message.body, "mentions": mentions_as_json(message)}
    payload = {"message_id": message.pk, "version": message.version, **more}
    writing.publish(message.room, type, payload, subject=message.subject, replaces=True)


def _take_back_reactions(organization_id: Any, user: Any) -> None:
    using = writing.alias()
    reactions = Reaction.objects.using(using).filter(
        organization_id=organization_id, user_id=writing.user_key(user)
    )
    with transaction.atomic(using):
        for reaction in reactions.select_related("message__room"):
            payload = {
                "message_id": reaction.message_id,
                "user": key_as_json(writing.user_key(user)),
                "emoji": reaction.emoji,
                "on": False,
            }
            reaction.delete(using=using)
            writing.publish(reaction.message.room, "chat.reaction", payload)


def _naming(organization_id: Any, user: Any) -> Iterator[int]:
    """The messages that mention a user; of an organisation all that mention anybody are looked at."""
    stored = writing.stored_key(user)
    messages = Message.objects.using(writing.alias()).filter(organization_id=organization_id)
    rows = messages.exclude(mentions=[]).values_list("pk", "mentions")
    return iter([pk for pk, mentions in rows.iterator() if stored in mentions])


def _forget_mention(message: Message, user: Any) -> None:
    using = writing.alias()
    stored = writing.stored_key(user)
    message.mentions = [each for each in message.mentions if each != stored]
    message.save(using=using, update_fields=["mentions"])
    patch = {"mentions": mentions_as_json(message)}
    stream.scrub(message.organization_id, message.subject, patch, using)
