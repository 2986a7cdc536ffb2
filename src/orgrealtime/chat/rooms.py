"""Rooms and who is in them: making, finding, joining, leaving, roles."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connections, models, transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from orgrealtime import stream
from orgrealtime.adapters import get_adapter
from orgrealtime.chat import text, writing
from orgrealtime.chat.conf import get_settings
from orgrealtime.chat.errors import ChatError, forbidden
from orgrealtime.chat.models import MAX_NAME, MAX_SLOW_MODE_SECONDS, Member, Room
from orgrealtime.chat.rules import Rules, get_rules
from orgrealtime.stream import dialect

SLUG = re.compile(
    r"(?![0-9]+$)[A-Za-z0-9][A-Za-z0-9_-]{0,59}", re.ASCII
)  # digits alone are a primary key in URLs
JOINED_TOGETHER = 500  # in one event
RANKS = {role: rank for rank, role in enumerate(Member.Role.values)}
OF_TWO = "(organization_id, direct_key) WHERE direct_key IS NOT NULL"
OF_SLUG = "(organization_id, slug) WHERE slug IS NOT NULL"


@dataclass(frozen=True, slots=True)
class RoomSummary:
    """A room as it stands in somebody's list; `role` is None for who isn't in it, `people` those of two who talk."""

    room: Room
    role: str | None
    notify: str | None
    muted_until: datetime.datetime | None
    people: list[int | str]

    def as_json(self) -> dict[str, Any]:
        """Return it as HTTP shows it."""
        muted = self.muted_until
        return {
            "id": self.room.pk,
            **room_as_json(self.room),
            "role": self.role,
            "notify": self.notify,
            "muted_until": None if muted is None else muted.astimezone(datetime.UTC).isoformat(),
            "people": self.people,
        }


def room_as_json(room: Room) -> dict[str, Any]:
    """Return what everybody who may see a room is told of it."""
    return {
        "name": room.name,
        "slug": room.slug,
        "kind": room.kind,
        "archived": room.archived_at is not None,
        "slow_mode_seconds": room.slow_mode_seconds,
        "version": room.version,
    }


# Finding


def rooms_of(organization: Any, user: Any) -> list[RoomSummary]:
    """Return the rooms that somebody is in, and the public ones of the organisation; one query."""
    rules = get_rules()
    rooms = _with_membership(writing.organization_key(organization), user).order_by("pk")
    return [summary_of(room) for room in rooms if _may_see(rules, user, room)]


def find_room(organization: Any, user: Any, *, slug: str | None = None, room_id: int | None = None) -> Room:
    """Return a room by its slug or its primary key, with the user's `role` in it (None: not a member); one query.

    Raises ChatError, forbidden, for one that doesn't exist and for one that somebody may not see.
    """
    rooms = _with_membership(writing.organization_key(organization), user)
    if slug is not None:
        room = rooms.filter(slug=slug).first() if SLUG.fullmatch(slug) else None
    else:
        room = rooms.filter(pk=writing.checked_id("room", room_id)).first()
    if room is None or not _may_see(get_rules(), user, room):
        raise forbidden()
    return room


def _with_membership(organization_id: Any, user: Any) -> QuerySet[Room]:
    own = Member.objects.filter(
        room_id=OuterRef("pk"), organization_id=organization_id, user_id=writing.user_key(user)
    )
    return (
        Room.objects.using(writing.alias())
        .filter(organization_id=organization_id)
        .annotate(**{name: Subquery(own.values(name)[:1]) for name in ("role", "notify", "muted_until")})
        .filter(Q(role__isnull=False) | Q(kind=Room.Kind.PUBLIC))
    )


def _may_see(rules: Rules, user: Any, room: Any) -> bool:
    return room.role is not None or rules.can_read(user, room)


def summary_of(room: Any) -> RoomSummary:
    """Return a room that somebody has found as it stands in the list of theirs."""
    keys = json.loads(room.direct_key) if room.is_direct else []
    people = writing.as_keys(writing.pk_of(each) for each in keys)
    return RoomSummary(room, room.role, room.notify, room.muted_until, people)


# Making


def create_room(
    organization: Any,
    actor: Any,
    *,
    kind: str,
    name: str,
    slug: str | None = None,
    members: Any = (),
    history: str = "all",
) -> Room:
    """Make a public or private room; the actor is its owner, and `members` of the organisation are in it.

    Raises ChatError: bad_request, empty, too_long, forbidden (by the rules, or one isn't in the organisation),
    conflict if the slug is taken.
    """
    organization_id, rules = writing.organization_key(organization), get_rules()
    if kind not in (Room.Kind.PUBLIC, Room.Kind.PRIVATE):
        raise ChatError("bad_request", f"kind is public or private, not {kind!r:.60}")
    if history not in Room.History.values:
        raise ChatError("bad_request", f"history is all or joined, not {history!r:.60}")
    if not isinstance(members, Iterable) or isinstance(members, str | dict):
        raise ChatError("bad_request", f"members is a list of users, not {members!r:.60}")
    if actor is not None and not rules.can_create(actor, organization_id, kind):
        raise forbidden()
    room = Room(
        organization_id=organization_id,
        kind=kind,
        slug=_checked_slug(slug),
        name=text.checked_line("name", name, max_length=MAX_NAME),
        history=history,
        created_by=actor,
    )
    users = [
        pk
        for pk in _in_organization(organization_id, members)
        if actor is None or pk != writing.user_key(actor)
    ]
    with transaction.atomic(writing.alias()):
        made = writing.insert(room, conflict=OF_SLUG)
        if made is None:
            raise ChatError("conflict", f"the slug {slug!r} is taken")
        if actor is not None:
            _add_all(made, [writing.user_key(actor)], Member.Role.OWNER, actor)
        _add_all(made, users, Member.Role.MEMBER, actor)
        rules.room_created(made, actor)
    return made


def open_direct(organization: Any, actor: Any, other: Any) -> Room:
    """Return the conversation of two users of an organisation; there is one, whoever opens it and however often.

    Raises ChatError: bad_request for oneself, forbidden if the other isn't in the organisation.
    """
    organization_id, rules, using = writing.organization_key(organization), get_rules(), writing.alias()
    keys = sorted({writing.stored_key(actor), _stored_user(other)}, key=str)
    if len(keys) < 2:
        raise ChatError("bad_request", "a conversation has two people")
    if not rules.can_create(actor, organization_id, Room.Kind.DIRECT):
        raise forbidden()
    pair = _in_organization(organization_id, [writing.pk_of(each) for each in keys])
    key = json.dumps(keys, ensure_ascii=False)
    with transaction.atomic(using):
        room = writing.insert(
            Room(organization_id=organization_id, kind=Room.Kind.DIRECT, direct_key=key, created_by=actor),
            conflict=OF_TWO,
        )
        is_new = room is not None
        if room is None:
            room = Room.objects.using(using).get(organization_id=organization_id, direct_key=key)
        there = set(room.members.values_list("user_id", flat=True))
        for user_id in pair:
            if user_id not in there:
                _add(room, user_id, Member.Role.MEMBER, actor)
        if is_new:
            rules.room_created(room, actor)
    return room


def update_room(organization: Any, actor: Any, *, room_id: int, version: int | None, **fields: Any) -> Room:
    """Change `name`, `archived` or `slow_mode_seconds` of a room that is at a version (None: whichever).

    Raises ChatError: bad_request, forbidden, conflict with the version that it is at.
    """
    if unknown := sorted(set(fields) - {"name", "archived", "slow_mode_seconds"}):
        raise ChatError("bad_request", f"a room has no {', '.join(unknown)} that could be changed")
    using = writing.alias()
    with transaction.atomic(using):
        room, _ = _moderated_room(organization, actor, room_id)
        if version is not None and writing.checked_id("version", version) != room.version:
            raise ChatError("conflict", f"the room is at version {room.version}", version=room.version)
        if "name" in fields:
            room.name = text.checked_line("name", fields["name"], max_length=MAX_NAME)
        if "slow_mode_seconds" in fields:
            room.slow_mode_seconds = _checked_seconds(fields["slow_mode_seconds"])
        if "archived" in fields:
            is_archived = fields["archived"]
            if not isinstance(is_archived, bool):
                raise ChatError("bad_request", f"archived is true or false, not {is_archived!r:.60}")
            room.archived_at = (room.archived_at or timezone.now()) if is_archived else None
        room.version += 1
        room.save(using=using, update_fields=["name", "slow_mode_seconds", "archived_at", "version"])
        writing.publish(room, "chat.room", room_as_json(room), actor=actor)
    return room


# Coming and going


def join(organization: Any, actor: Any, *, room_id: int) -> Member:
    """Become a member of a room that one may join; who is one already stays it as before.

    Raises ChatError: forbidden, archived, bad_request beyond the limits of rooms and members.
    """
    organization_id = writing.organization_key(organization)
    with transaction.atomic(writing.alias()):
        room = _locked_room(organization_id, room_id)
        member = _member(room, writing.user_key(actor))
        if member is not None:
            return member
        if room.is_direct or not get_rules().can_join(actor, room):
            raise forbidden()
        _check_not_archived(room)
        return _add(room, writing.user_key(actor), Member.Role.MEMBER, actor)


def leave(organization: Any, actor: Any, *, room_id: int) -> None:
    """Be a member no more; raises ChatError, forbidden, for who isn't one, and in conversations of two people."""
    with transaction.atomic(writing.alias()):
        room = _locked_room(writing.organization_key(organization), room_id)
        member = _member(room, writing.user_key(actor))
        if member is None:
            raise forbidden()
        if room.is_direct:
            raise ChatError("forbidden", "a conversation of two people can't be left")
        remove(member, room, actor)


def add_member(organization: Any, actor: Any, *, room_id: int, user: Any, role: str = "member") -> Member:
    """Add somebody of the organisation to a room; who is in it already stays as before.

    Raises ChatError: forbidden, also for a role above one's own, archived, bad_request.
    """
    wanted = _checked_role(role)
    with transaction.atomic(writing.alias()):
        room, own = _moderated_room(organization, actor, room_id)
        _check_rank(own, wanted)
        _check_not_archived(room)
        (user_id,) = _in_organization(room.organization_id, [user])
        return _member(room, user_id) or _add(room, user_id, wanted, actor)


def remove_member(organization: Any, actor: Any, *, room_id: int, user: Any) -> None:
    """Remove somebody from a room, from which moment nothing of it is theirs; who isn't in it needn't be removed.

    Raises ChatError, forbidden, also for somebody whose role is above one's own.
    """
    user_id = writing.pk_of(_stored_user(user))
    with transaction.atomic(writing.alias()):
        room, own = _moderated_room(organization, actor, room_id)
        member = _member(room, user_id)
        if member is not None:
            _check_rank(own, member.role)
            remove(member, room, actor)


def set_role(organization: Any, actor: Any, *, room_id: int, user: Any, role: str) -> Member:
    """Give a member another role; owners may, and the host. Raises ChatError: forbidden, bad_request."""
    wanted = _checked_role(role)
    user_id = writing.pk_of(_stored_user(user))
    using = writing.alias()
    with transaction.atomic(using):
        room, own = _moderated_room(organization, actor, room_id)
        _check_rank(own, Member.Role.OWNER)
        member = _member(room, user_id)
        if member is None:
            raise forbidden()
        if member.role != wanted:
            member.role = wanted
            member.save(using=using, update_fields=["role"])
            payload = {"users": writing.as_keys([user_id]), "role": wanted}
            writing.publish(room, "chat.joined", payload, actor=actor)
    return member


def remove(member: Member, room: Room, actor: Any) -> None:
    """Remove a member in the transaction that is open, without Django's signals, and tell the room and the member."""
    using = writing.alias()
    Member.objects.using(using).filter(pk=member.pk)._raw_delete(using)
    tell_left(room, [member.user_id], actor)


def leave_all(organization: Any, user: Any) -> None:
    """Take somebody out of all rooms of an organisation, conversations included, whose membership of it has ended.

    It happens by itself where memberships end with a signal of Django's.
    """
    user_id = writing.user_key(user) if isinstance(user, models.Model) else user
    using = writing.alias()
    with transaction.atomic(using):
        members = Member.objects.using(using).filter(
            organization_id=writing.organization_key(organization), user_id=user_id
        )
        for member in members.select_related("room").select_for_update(of=("self",)).order_by("pk"):
            remove(member, member.room, None)


def tell_left(room: Room, user_ids: list[Any], actor: Any = None) -> None:
    """Withdraw a room's topic from users whose rows are gone, and tell them so outside of it."""
    for some in _chunks(user_ids):
        payload = {"users": writing.as_keys(some)}
        writing.publish(room, "chat.left", payload, actor=actor, withdraws=some)
    for user_id in user_ids:  # each alone: who else leaves is for the room to know
        payload = {"users": writing.as_keys([user_id])}
        writing.publish(room, "chat.left", payload, actor=actor, topic=None, to=[user_id])


def _locked_room(organization_id: Any, room_id: int) -> Room:
    """Return a room to which nobody is added, and that nobody changes, until the end of the transaction."""
    rooms = Room.objects.using(writing.alias()).filter(
        organization_id=organization_id, pk=writing.checked_id("room", room_id)
    )
    room = rooms.select_for_update(no_key=True).first()  # messages refer to it, and needn't wait
    if room is None:
        raise forbidden()
    return room


def _moderated_room(organization: Any, actor: Any, room_id: int) -> tuple[Room, Member | None]:
    """Return a locked room, and the actor as a member who may moderate it; None is the host."""
    room = _locked_room(writing.organization_key(organization), room_id)
    if actor is None:
        if room.is_direct:
            raise ChatError("bad_request", "a conversation of two people stays as it is")
        return room, None
    member = _member(room, writing.user_key(actor))
    if member is None or room.is_direct or not get_rules().can_moderate(actor, room, member):
        raise forbidden()
    return room, member


def _member(room: Room, user_id: Any) -> Member | None:
    members = Member.objects.using(writing.alias()).filter(
        organization_id=room.organization_id, room=room, user_id=user_id
    )
    return members.select_for_update().first()


def _add(room: Room, user_id: Any, role: str, actor: Any) -> Member:
    """Add a member to a room, which is locked or new, in one INSERT and one event."""
    using, limits = writing.alias(), get_settings()
    here = dialect.of(connections[using])
    members = Member.objects.using(using)
    # The user's other joinings wait: the counts below are exact.
    turn = here.in_turn(f"orgrealtime.chat {room.organization_id} {user_id}")
    Room.objects.using(using).filter(pk=room.pk).annotate(turn=turn).values_list("turn").first()
    own = members.filter(organization_id=room.organization_id, user_id=user_id)
    for what, rows, most in (
        ("rooms of a user", own, limits.MAX_ROOMS_PER_USER),
        ("members of a room", members.filter(room=room), limits.MAX_MEMBERS),
    ):
        if rows[most - 1 : most].exists():
            raise _too_many(what, most)
    member = writing.insert(
        Member(organization_id=room.organization_id, room=room, user_id=user_id, role=role),
        conflict="(room_id, user_id)",
        expressions={"joined_event": here.event_id()},
    )
    if member is None:  # two open a conversation at once
        return members.get(room=room, user_id=user_id)
    _tell_joined(room, [user_id], role, actor, member.joined_event)
    return member


def _add_all(room: Room, user_ids: Collection[Any], role: str, actor: Any) -> None:
    """Add the first members of a new room."""
    using, limits = writing.alias(), get_settings()
    if len(user_ids) > limits.MAX_MEMBERS:
        raise _too_many("members of a room", limits.MAX_MEMBERS)
    full = (
        Member.objects.using(using)
        .filter(organization_id=room.organization_id, user_id__in=user_ids)
        .values("user_id")
        .annotate(rooms=Count("pk"))
        .filter(rooms__gte=limits.MAX_ROOMS_PER_USER)
    )
    if full.exists():
        raise _too_many("rooms of a user", limits.MAX_ROOMS_PER_USER)
    for some in _chunks(list(user_ids)):
        event_id = stream.draw_event_id(using)
        Member.objects.using(using).bulk_create(
            Member(
                organization_id=room.organization_id,
                room=room,
                user_id=user_id,
                role=role,
                joined_event=event_id,
            )
            for user_id in some
        )
        _tell_joined(room, some, role, actor, event_id)


def _chunks(user_ids: list[Any]) -> Iterator[list[Any]]:
    for start in range(0, len(user_ids), JOINED_TOGETHER):
        yield user_ids[start : start + JOINED_TOGETHER]


def _tell_joined(room: Room, user_ids: list[Any], role: str, actor: Any, event_id: int) -> None:
    writing.publish(
        room,
        "chat.joined",
        {"users": writing.as_keys(user_ids), "role": role},
        pk=event_id,
        actor=actor,
        grants=user_ids,
        # Where history begins with joining, the number of this event is needed longer than the event.
        entry=room.history == Room.History.JOINED,
    )


def _in_organization(organization_id: Any, users: Iterable[Any]) -> list[Any]:
    """Return the primary keys of users, each once; raise ChatError if one of them isn't in the organisation."""
    user_ids = list(dict.fromkeys(writing.pk_of(_stored_user(each)) for each in users))
    pairs = [(organization_id, user_id) for user_id in user_ids]
    found = get_adapter().accesses(pairs) if pairs else {}
    if any(pair not in found for pair in pairs):
        raise ChatError("forbidden", "not a member of this organisation")
    return user_ids


def _stored_user(user: Any) -> int | str:
    try:
        return writing.stored_key(user)
    except Exception:  # a host's field may raise anything
        raise ChatError("forbidden", "not a member of this organisation") from None


def _check_rank(own: Member | None, role: str) -> None:
    """Raise ChatError if a role is above a member's own; the host is above all."""
    if own is not None and RANKS[role] < RANKS[own.role]:
        raise forbidden()


def _check_not_archived(room: Room) -> None:
    if room.archived_at is not None:
        raise ChatError("archived", "the room is archived: it can be read, and nothing is added")


def _checked_role(role: Any) -> str:
    if role not in Member.Role.values:
        raise ChatError("bad_request", f"role is one of {', '.join(Member.Role.values)}, not {role!r:.60}")
    return str(role)


def _checked_slug(slug: Any) -> str | None:
    if slug is not None and not (isinstance(slug, str) and SLUG.fullmatch(slug)):
        raise ChatError(
            "bad_request",
            f"slug is a text of 1 to 60 letters, digits, - and _, and not of digits alone: not {slug!r:.80}",
        )
    return slug


def _checked_seconds(seconds: Any) -> int:
    if type(seconds) is not int or not 0 <= seconds <= MAX_SLOW_MODE_SECONDS:
        raise ChatError(
            "bad_request", f"slow_mode_seconds is 0 to {MAX_SLOW_MODE_SECONDS}, not {seconds!r:.60}"
        )
    return seconds


def _too_many(what: str, most: int) -> ChatError:
    return ChatError("bad_request", f"at most {most} {what}", limit=most, unit=what)
