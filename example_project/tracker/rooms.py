"""The rooms of the demo, and what was said there in its past day."""

from datetime import timedelta
from typing import Any, NamedTuple

from django.contrib.auth.models import User
from django.utils import timezone

from orgrealtime.chat import services
from orgrealtime.chat.models import Message, Room
from orgrealtime.models import NotificationEvent
from tracker.models import Organization

# By slug: name, kind, and who is in it; None: everybody.
ROOMS: dict[str, dict[str, tuple[str, str, list[str] | None]]] = {
    "acme": {
        "general": ("General", Room.Kind.PUBLIC, None),
        "random": ("Random", Room.Kind.PUBLIC, None),
        "leads": ("Leads", Room.Kind.PRIVATE, ["alice", "bob"]),
    },
    "globex": {"general": ("General", Room.Kind.PUBLIC, None)},
}
DIRECT = {"acme": ("alice", "dave"), "globex": None}


class Line(NamedTuple):
    """What somebody said so many minutes ago, and what came of it."""

    minutes: int
    room: str
    author: str
    body: str
    reply_to: int | None = None  # so many lines before this one
    reactions: dict[str, list[str]] = {}


SAID: dict[str, list[Line]] = {
    "acme": [
        Line(1330, "general", "bob", "Good morning! The backup of last night is complete, all 41 GB of it."),
        Line(1322, "general", "alice", "Lovely. Then I start moving the invoices to the new bank account today."),
        Line(1318, "general", "dave", "Tell me when you do, I am in the same files.", reply_to=1),
        Line(1290, "leads", "alice", "Before the others hear it: March is tight. The survey or the badges?"),
        Line(1281, "leads", "bob", "The badges. The survey is what the customers asked for."),
        Line(1276, "leads", "alice", "Agreed. I tell everybody tomorrow.", reactions={"👍": ["bob"]}),
        Line(1210, "random", "dave", "The coffee machine is back ☕", reactions={"🎉": ["alice", "bob"]}),
        Line(1195, "random", "bob", "Who named it “Deep Thought”?"),
        Line(1188, "random", "alice", "It did take seven and a half million years to be repaired."),
        Line(1020, "direct", "dave", "Ten minutes for the address form? It takes “Straße” for an error."),
        Line(1012, "direct", "alice", "After lunch. Send me the order number and I look at it first."),
        Line(1009, "direct", "dave", "4711, of course."),
        Line(840, "general", "alice", "Half of the invoices have moved. If a number looks odd, tell me."),
        Line(655, "general", "bob", "The insurance is renewed.", reactions={"👍": ["alice", "dave"]}),
        Line(210, "general", "dave", "Checkout 2.4 goes out at four. It has the address form in it."),
        Line(196, "general", "alice", "Including the umlauts?", reply_to=1),
        Line(193, "general", "dave", "Including the umlauts. مرحبا works as well."),
        Line(150, "random", "bob", "Lunch: the Vietnamese place has its terrace open again."),
        Line(146, "random", "dave", "In."),
        Line(95, "leads", "bob", "I have the numbers of the survey. 312 answers, and most of them kind."),
        Line(88, "leads", "alice", "Then let us show them on Friday."),
        Line(52, "direct", "alice", "4711 works now. Nice catch.", reactions={"🙏": ["dave"]}),
        Line(33, "general", "dave", "Checkout 2.4 is out.", reactions={"🎉": ["alice", "bob"]}),
        Line(24, "general", "alice", "Nothing odd in the logs so far."),
        Line(6, "general", "bob", "Support says: fewer calls than on any Monday this year."),
    ],
    "globex": [
        Line(1250, "general", "carol", "The stocktake begins in hall 3. Please leave the gates open."),
        Line(1240, "general", "dave", "Done. The forklift is charged, too."),
        Line(70, "general", "carol", "The freight people call back tomorrow; I keep the old rates until then."),
    ],
}  # fmt: skip


def make_rooms(organization: Organization, users: dict[str, User]) -> dict[str, Room]:
    """Return the rooms of an organisation by their slugs, made unless they exist; that of two people is `direct`."""
    members = User.objects.filter(memberships__organization=organization)
    by_name = {user.username: user for user in members}
    rooms = {}
    for slug, (name, kind, names) in ROOMS[organization.slug].items():
        people = [by_name[each] for each in names or by_name if each in by_name]
        there = Room.objects.filter(organization=organization, slug=slug).first()
        rooms[slug] = there or services.create_room(
            organization, None, kind=kind, name=name, slug=slug, members=people
        )
    if (pair := DIRECT[organization.slug]) is not None:
        rooms["direct"] = services.open_direct(organization, users[pair[0]], users[pair[1]])
    return rooms


def make_talk(organization: Organization, rooms: dict[str, Room], users: dict[str, User]) -> None:
    """Have everything said, at its time; in the transaction of the caller."""
    now = timezone.now()
    said: list[Message] = []
    lines = SAID[organization.slug]
    begin = now - timedelta(minutes=lines[0].minutes + 60)
    happened = [(begin, _newest(organization))]  # what came before the first line: the rooms
    for line in lines:
        when = now - timedelta(minutes=line.minutes)
        said.append(say(organization, rooms[line.room], line, users, said))
        Message.objects.filter(pk=said[-1].pk).update(created_at=when)
        happened.append((when, _newest(organization)))
    events = NotificationEvent.objects.filter(organization=organization, topic__startswith="room-")
    after = 0
    for when, newest in happened:
        events.filter(pk__gt=after, pk__lte=newest).update(created_at=when)
        after = newest


def say(
    organization: Organization, room: Room, line: Line, users: dict[str, User], said: list[Message]
) -> Message:
    options: dict[str, Any] = {}
    if line.reply_to is not None:
        options["reply_to"] = said[-line.reply_to].pk
    message = services.send(
        organization, users[line.author], room_id=room.pk, body=line.body, **options
    ).message
    for emoji, names in line.reactions.items():
        for name in names:
            services.react(organization, users[name], message_id=message.pk, emoji=emoji)
    return message


def _newest(organization: Organization) -> int:
    return NotificationEvent.objects.filter(organization=organization).latest("pk").pk
