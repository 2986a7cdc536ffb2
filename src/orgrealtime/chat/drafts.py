"""A message before it is written: what clients give is checked, the rules are asked, its text gets a digest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.conf import settings as django_settings
from django.db.models import QuerySet
from django.utils.crypto import constant_time_compare, salted_hmac

from orgrealtime.chat import text, writing
from orgrealtime.chat.conf import get_settings
from orgrealtime.chat.errors import ChatError, forbidden
from orgrealtime.chat.models import MAX_CLIENT_MESSAGE_ID, Member, Message, Room
from orgrealtime.chat.rules import Draft, Rules
from orgrealtime.errors import PayloadError
from orgrealtime.protocol.keys import key_as_json
from orgrealtime.protocol.payloads import check_value

MAX_ATTACHMENTS = 10
MAX_KEY = 255  # characters of a user's primary key


def members_of(organization_id: Any, actor: Any) -> QuerySet[Member]:
    """Return what an actor is in an organisation's rooms."""
    if actor is None:
        raise TypeError("this is done in somebody's name: actor is a user")
    return Member.objects.using(writing.alias()).filter(
        organization_id=organization_id,
        user_id=writing.user_key(actor),
        room__organization_id=organization_id,
    )


def check_posting(rules: Rules, actor: Any, room: Room, member: Member) -> None:
    """Raise ChatError unless a member may add something to a room."""
    if not rules.can_post(actor, room, member):
        raise forbidden()
    if room.archived_at is not None:
        raise ChatError("archived", "the room is archived: it can be read, and nothing is added")


def moderated(rules: Rules, draft: Draft) -> Draft:
    """Return a draft as the rules let it pass."""
    first = replace(draft)
    passed = rules.moderate(draft)
    if passed is None:
        raise ChatError("moderated", "the message was refused by the rules of this site")
    if passed.body != first.body:
        limits = get_settings()
        passed.body = text.checked_body(passed.body, max_length=limits.MAX_LENGTH, max_bytes=limits.MAX_BYTES)
    return passed


def mentions_as_json(message: Message) -> list[int | str]:
    """Return whom a message names, as it travels."""
    return writing.as_keys(writing.pk_of(each) for each in message.mentions)


def digest(body: str, secret: str | bytes | None = None) -> str:
    """Return an HMAC of a text, by the secret key of the site or a former one."""
    return salted_hmac("orgrealtime.chat.text", body, secret=secret, algorithm="sha256").hexdigest()


def is_text_of(body: str, message: Message) -> bool:
    """Tell whether this is the text that a message was first sent with; of a tombstone nobody knows any more."""
    if message.is_deleted:
        return True
    secrets = (None, *django_settings.SECRET_KEY_FALLBACKS)
    return any(constant_time_compare(digest(body, secret), message.text_digest) for secret in secrets)


def checked_client_message_id(given: Any) -> str | None:
    """Return the id that a client has given a message; raise ChatError for what can be none."""
    if given is None:
        return None
    if not isinstance(given, str) or not 0 < len(given) <= MAX_CLIENT_MESSAGE_ID or not given.isprintable():
        raise ChatError(
            "bad_request",
            f"client_message_id is a text of 1 to {MAX_CLIENT_MESSAGE_ID} printable characters, not {given!r:.80}",
        )
    return given


def checked_mentions(given: Any) -> list[int | str]:
    """Return the stored keys of users who are named, each once."""
    most = get_settings().MAX_MENTIONS
    if not isinstance(given, list | tuple):
        raise ChatError("bad_request", f"mentions is a list of users, not {given!r:.60}")
    if len(given) > most:
        raise ChatError(
            "bad_request", f"mentions has {len(given)} users; at most {most}", limit=most, length=len(given)
        )
    try:
        if any(len(str(each)) > MAX_KEY for each in given):  # an index can't hold what a column may
            raise ValueError
        return list(dict.fromkeys(map(writing.stored_key, given)))
    except Exception:  # a host's field may raise anything
        raise ChatError("bad_request", f"mentions has what is no user: {given!r:.80}") from None


def checked_attachments(given: Any) -> list[Any]:
    """Return what a client attaches, as JSON; the rules say what becomes of it."""
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


def tell_mentioned(message: Message, room: Room, actor: Any, mentions: list[int | str]) -> None:
    """Tell those of the room whom a message names; the topic keeps it from all others."""
    own = None if actor is None else writing.stored_key(actor)
    to = [writing.pk_of(each) for each in mentions if each != own]
    if to:
        payload = {
            "message_id": message.pk,
            "body": message.body,
            "by": None if actor is None else key_as_json(writing.user_key(actor)),
        }
        writing.publish(
            room, "chat.mention", payload, actor=actor, to=to, category="mention", subject=message.subject
        )
