"""What is done about rows of rooms that go without a service, and about users whose membership has ended."""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.db.models.signals import post_delete, pre_delete

from orgrealtime import stream
from orgrealtime.adapters import get_adapter
from orgrealtime.chat import writing
from orgrealtime.chat.messages import EMPTY, tell_deleted
from orgrealtime.chat.models import Member, Message, Room
from orgrealtime.chat.rooms import leave_all, tell_left
from orgrealtime.receivers import Change, listen_to_memberships


def connect_receivers() -> None:
    """Listen to rooms, members, messages and memberships."""
    pre_delete.connect(_room_goes, sender=Room, dispatch_uid="orgrealtime.chat.room")
    post_delete.connect(_member_gone, sender=Member, dispatch_uid="orgrealtime.chat.member")
    post_delete.connect(_message_gone, sender=Message, dispatch_uid="orgrealtime.chat.message")
    listen_to_memberships(_membership_ends)


def _is_of(origin: Any, *kinds: type[models.Model]) -> bool:
    """Tell whether a deletion began with rows of these models, so that their organisation stays."""
    model = origin.model if isinstance(origin, models.QuerySet) else type(origin)
    return issubclass(model, kinds)


def _room_goes(sender: Any, instance: Room, origin: Any = None, **kwargs: Any) -> None:
    if _is_of(origin, Room):
        tell_left(instance, list(instance.members.order_by("pk").values_list("user_id", flat=True)))


def _member_gone(sender: Any, instance: Member, using: str, origin: Any = None, **kwargs: Any) -> None:
    if _is_of(origin, Member):
        tell_left(instance.room, [instance.user_id])
    elif not _is_of(origin, Room):
        # With the user, or with the organisation: what is published now would keep that from going.
        room_id, user_id = instance.room_id, instance.user_id
        transaction.on_commit(lambda: _tell_if_room_stays(room_id, user_id), using=using, robust=True)


def _tell_if_room_stays(room_id: int, user_id: Any) -> None:
    room = Room.objects.using(writing.alias()).filter(pk=room_id).first()
    if room is not None and not room.members.filter(user_id=user_id).exists():
        tell_left(room, [user_id])


def _message_gone(sender: Any, instance: Message, using: str, origin: Any = None, **kwargs: Any) -> None:
    # With an organisation its events go, too.
    if _is_of(origin, Message, Room):
        stream.scrub(instance.organization_id, instance.subject, EMPTY, using)
    if _is_of(origin, Message) and not instance.is_deleted:
        # As of a tombstone: by it clients know, and processes forget what they have in memory.
        tell_deleted(instance, instance.version + 1, None)


def _membership_ends(change: Change) -> None:
    # Lambdas, because Django can't report the failure of a partial: it would reach the caller.
    if not change.is_new:
        user_ids = list(get_adapter().users_of(change.instance))
        transaction.on_commit(lambda: _leave_what_has_ended(user_ids), using=change.using, robust=True)


def _leave_what_has_ended(user_ids: list[Any]) -> None:
    """Take users out of the rooms of organisations to which they have no access any more."""
    members = Member.objects.using(writing.alias()).filter(user_id__in=user_ids)
    pairs = set(members.values_list("organization_id", "user_id").distinct())
    found = get_adapter().accesses(pairs) if pairs else {}
    for organization_id, user_id in pairs - set(found):
        leave_all(organization_id, user_id)
