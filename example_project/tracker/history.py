"""A day of the demo's past, so that its first page looks like one of a team at work."""

import random
from datetime import datetime, timedelta
from io import BytesIO

from django.contrib.auth.models import User
from django.utils import timezone
from exports import sheet
from exports.models import LEASE, Export
from exports.services import finish
from exports.tasks import rows_of

from orgrealtime import publish
from orgrealtime.models import NotificationEvent
from tracker.models import Organization, Task

# How many events each hour of the day has; the last hour has those of LATEST.
BUSY = [0, 0, 0, 0, 0, 0, 1, 3, 7, 10, 11, 8, 4, 9, 12, 9, 7, 4, 2, 1, 0, 1, 0, 0]
LATEST = [52, 41, 33, 24, 18, 11, 6, 3]  # minutes ago
NOTES = ["Checkout 2.4 is deployed", "The nightly backup is complete", "Support hours change on Monday"]
# Every so many events something else happens than a move.
EXPORT_EVERY = 14
NOTE_EVERY = 9


def make_history(organization: Organization) -> None:
    """Publish what led to the tasks as they are: moves, some notes, and exports that can be downloaded.

    In the transaction of the caller.
    """
    chance = random.Random(4)  # noqa: S311 - the same past each time
    times = moments(timezone.now(), chance)
    people = list(User.objects.filter(memberships__organization=organization).order_by("pk"))
    kinds = [kind_of(number) for number in range(1, len(times) + 1)]
    moves = iter(moves_to(list(organization.tasks.all()), kinds.count("move"), chance))
    events = []
    for when, kind in zip(times, kinds, strict=True):
        actor = chance.choice(people)
        if kind == "export":
            event = export(organization, actor, when)
        elif kind == "note":
            event = publish(organization, "note", {"text": chance.choice(NOTES)})
        else:
            event = move(organization, actor, when, *next(moves))
        event.created_at = when
        events.append(event)
    NotificationEvent.objects.bulk_update(events, ["created_at"])


def moments(now: datetime, chance: random.Random) -> list[datetime]:
    found = [now - timedelta(minutes=minutes) for minutes in LATEST]
    for hours in range(23, 1, -1):
        begin = now - timedelta(hours=hours)
        found += [begin + timedelta(minutes=chance.uniform(0, 59)) for _ in range(BUSY[begin.hour])]
    return sorted(found)


def kind_of(number: int) -> str:
    if number % EXPORT_EVERY == 0:
        return "export"
    return "move" if number % NOTE_EVERY else "note"


def moves_to(tasks: list[Task], count: int, chance: random.Random) -> list[tuple[Task, str, str]]:
    """So many moves, one after the other, after which each task has the status that it has."""
    status = {task.pk: str(task.status) for task in tasks}
    moves = []
    for _ in range(count):  # from the last one back
        task = chance.choice(tasks)
        before = chance.choice([each for each in Task.Status.values if each != status[task.pk]])
        moves.append((task, before, status[task.pk]))
        status[task.pk] = before
    return moves[::-1]


def move(
    organization: Organization, actor: User, when: datetime, task: Task, before: str, after: str
) -> NotificationEvent:
    Task.objects.filter(pk=task.pk).update(updated_at=when)
    details = {"from": before, "to": after}
    payload = {"task_id": task.pk, "action": "status_changed", "details": details}
    return publish(organization, "task_event", payload, actor=actor)


def export(organization: Organization, user: User, when: datetime) -> NotificationEvent:
    """Make a file at once, and return the event that tells of it."""
    made = Export(organization=organization, requested_by=user, status=Export.Status.RUNNING)
    made.lease_until = timezone.now() + LEASE
    made.save()
    content = BytesIO()
    list(sheet.write(content, rows_of(made), 1))
    content.seek(0)
    finish(made, content)
    Export.objects.filter(pk=made.pk).update(created_at=when)
    return NotificationEvent.objects.filter(organization=organization).latest("pk")
