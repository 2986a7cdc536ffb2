"""Finding what a client names: the room in a URL, and whether an error says that nothing has been done for now."""

from __future__ import annotations

from typing import Any

from django.db import Error

from orgrealtime.chat.errors import ChatError, forbidden
from orgrealtime.chat.models import Room
from orgrealtime.chat.rooms import find_room
from orgrealtime.stream.access import Access
from orgrealtime.stream.database import alias, may_pass, sqlstates

RETRY_AFTER_MS = 2000
# PostgreSQL, appendix A: a lock that is held too long, a deadlock, a serialization failure.
LATER = frozenset({"55P03", "40P01", "40001"})


def room_named(organization: Any, user: Any, name: str) -> Room:
    """Return the room that stands in a URL: by its slug, or by its primary key if it has none.

    Raises ChatError, forbidden, for one that doesn't exist and for one that somebody may not see.
    """
    if not _is_number(name):
        return find_room(organization, user, slug=name)
    room = find_room(organization, user, room_id=int(name))
    if room.slug is not None:
        raise forbidden()
    return room


def own_room_named(access: Access, name: str) -> Room | None:
    """Return the room that stands in a URL if the user is in it, as far as the topics of an access say."""
    rooms = Room.objects.using(alias()).filter(organization_id=access.organization_id)
    room = rooms.filter(pk=int(name), slug=None) if _is_number(name) else rooms.filter(slug=name)
    found = room.first()
    return found if found is not None and found.topic in access.topics else None


def can_be_asked_later(error: Error) -> bool:
    """Tell whether an error of the database came of its state at the moment, and not of what it was asked."""
    return may_pass(error) or not LATER.isdisjoint(sqlstates(error))


def unavailable() -> ChatError:
    """Return the refusal of what may have been done or not: asking again with the same id does it once."""
    return ChatError(
        "unavailable", "the database can't be asked now; try again", retry_after_ms=RETRY_AFTER_MS
    )


def _is_number(name: str) -> bool:
    # More digits can be no primary key; slugs have others than digits.
    return name.isascii() and name.isdigit() and len(name) <= 18
