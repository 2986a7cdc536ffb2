"""Who may do what in rooms. Subclass `Rules`, and name the subclass in `ORGREALTIME_CHAT["RULES"]`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from django.utils.module_loading import import_string

from orgrealtime.chat.conf import get_settings
from orgrealtime.chat.errors import ChatError
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.keys import user_keys
from orgrealtime.overrides import refuse_coroutines

METHODS = (
    "attachment",
    "can_create",
    "can_edit",
    "can_join",
    "can_moderate",
    "can_post",
    "can_read",
    "moderate",
    "room_created",
)


@dataclass(slots=True)
class Draft:
    """What somebody is about to say; `message` is the one that it changes, None for a new one."""

    room: Room
    author: Any
    body: str
    mentions: list[Any] = field(default_factory=list)
    mentions_all: bool = False
    attachments: list[Any] = field(default_factory=list)
    message: Message | None = None


class Rules:
    """The default: closed unless a room is public, and roles decide.

    Every method runs in a database thread, inside the transaction of what is asked, and must not be async. `user` is
    always a member of the organisation.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        refuse_coroutines(cls, *METHODS)

    def can_create(self, user: Any, organization_id: Any, kind: str) -> bool:
        """Tell whether this user may make a room of this kind; default: conversations of two people alone."""
        return kind == Room.Kind.DIRECT

    def can_join(self, user: Any, room: Room) -> bool:
        """Tell whether this user may become a member without being added; default: of public rooms."""
        return room.kind == Room.Kind.PUBLIC

    def can_read(self, user: Any, room: Room) -> bool:
        """Tell whether a user who isn't in a public room may see it and read its history; default: everybody may.

        Members always may, and in other rooms nobody else does.
        """
        return True

    def can_post(self, user: Any, room: Room, member: Member) -> bool:
        """Tell whether a member may post and react; default: all but those with the role `readonly`."""
        return member.role != Member.Role.READONLY

    def can_edit(self, user: Any, room: Room, message: Message) -> bool:
        """Tell whether a member may change what a message says; default: its author may."""
        return message.author_id is not None and message.author_id == user_keys().of(user)

    def can_moderate(self, user: Any, room: Room, member: Member, message: Message | None = None) -> bool:
        """Tell whether a member may add and remove others, and delete a message of others; default: by the role.

        Not in a conversation of two people.
        """
        return member.moderates and not room.is_direct

    def moderate(self, draft: Draft) -> Draft | None:
        """Return what is to be posted instead of a draft, or None to refuse it; default: the draft as it is.

        May raise `ChatError("moderated", "…")` to say why.
        """
        return draft

    def attachment(self, user: Any, room: Room, ref: Any) -> Any:
        """Return the JSON value that is kept and shown for what a client attaches; default: refuse all.

        `ref` comes from the client: look up what it names, and whether it is this user's.
        """
        raise ChatError("bad_request", "nothing can be attached here")

    def room_created(self, room: Room, user: Any) -> None:
        """Do what belongs to a new room, in its transaction; `user` is None if the host has made it."""


_cache: tuple[str, Rules] | None = None


def get_rules() -> Rules:
    """Return the rules in force; raises ImportError or TypeError if the setting names none."""
    global _cache
    name = get_settings().RULES
    if _cache is None or _cache[0] != name:
        cls = import_string(name)
        if not (isinstance(cls, type) and issubclass(cls, Rules)):
            raise TypeError(
                f"ORGREALTIME_CHAT['RULES'] is a subclass of orgrealtime.chat.rules.Rules, not {name}"
            )
        refuse_coroutines(cls, *METHODS)
        _cache = (name, cls())
    return _cache[1]
