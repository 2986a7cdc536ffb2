"""A process that publishes at a steady rate and says of each event what became of it.

`python -m tests.faults.publisher <run> <seed> <per second>` in the site's environment: a line of JSON for each event
until its input ends. One event in five is for three members only, and one in five of a type that guests don't see. One
in four is a message that somebody says in the organisation's room; it is sent again under the same `client_message_id`
until it is accepted, as a client does, and twice now and then. Any other error is reported, and publishing goes on.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from typing import Any

import django

RETRIES = 3


def main(run: str, seed: int, rate: float) -> None:
    sys.path.insert(0, os.environ["EXAMPLE"])
    django.setup()
    from django.db import Error, close_old_connections
    from tracker.models import Membership, Organization

    from orgrealtime import publish
    from orgrealtime.chat import services
    from orgrealtime.chat.models import Room

    organizations = list(Organization.objects.filter(slug__startswith="org-").order_by("slug"))
    rooms = {
        room.organization_id: (room.pk, [member.user for member in room.members.select_related("user")])
        for room in Room.objects.filter(slug="room", organization__in=organizations)
    }
    members: dict[int, list[tuple[int, str]]] = {}
    for row in Membership.objects.values_list("organization_id", "user_id", "user__username"):
        members.setdefault(row[0], []).append(row[1:])
    close_old_connections()

    def say(organization: Any, user: Any, room: int, mark: str, times: int) -> None:
        """Say something in a room, as a client that has lost the answer does: again, until there is one."""
        for attempt in range(times + RETRIES):
            try:
                services.send(organization, user, room_id=room, body=mark, client_message_id=mark)
            except Error:
                close_old_connections()
                if attempt == times + RETRIES - 1:
                    raise
            else:
                times -= 1
            if times == 0:
                return

    chance = random.Random(seed)
    number, due = 0, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        due = max(due + 1 / rate, time.monotonic() - 1)  # after a stall it doesn't make up for all of it
        number += 1
        organization = chance.choice(organizations)
        report = {"mark": f"{run}-{number}", "org": organization.slug}
        report["begun"] = begin = time.monotonic()
        try:
            if chance.random() < 0.25:
                room, users = rooms[organization.pk]
                report |= {"type": "chat.message", "to": [user.username for user in users]}
                say(organization, chance.choice(users), room, report["mark"], chance.choice([1, 1, 1, 2]))
            else:
                to = chance.sample(members[organization.pk], 3) if chance.random() < 0.2 else None
                report["type"] = "secret" if chance.random() < 0.2 else "note"
                report["to"] = None if to is None else [name for _, name in to]
                payload = {"mark": report["mark"], "at": begin}
                publish(organization, report["type"], payload, to=to and [pk for pk, _ in to])
        except services.ChatError:
            continue  # who was to say it has been removed meanwhile
        except Error as error:
            report["error"] = repr(error)
        report["ms"] = (time.monotonic() - begin) * 1000
        close_old_connections()
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
