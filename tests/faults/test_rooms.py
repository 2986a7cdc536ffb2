"""People join and leave rooms while others speak there, and while something breaks (docs/explanation/faults.md)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import defaultdict
from typing import NamedTuple

import pytest

from tests.faults.load import Load
from tests.faults.rig import Rig

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="session")]

ORG = "org-4"
# Four speak 200 times a second altogether in a room that all may join; a fifth joins and leaves as each of the members.
HALL = """
import random, sys, threading, time
import django
django.setup()
from django.contrib.auth.models import User
from django.db import connection
from orgrealtime.chat import services
from tracker.models import Organization
slug, seconds, seed = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
organization = Organization.objects.get(slug=slug)
users = list(User.objects.filter(memberships__organization=organization).order_by("pk"))
room = services.create_room(organization, None, kind="public", name="Hall", slug=f"hall-{seed}", members=users[:4])
ends = time.monotonic() + seconds
def speak(user):
    number = 0
    while time.monotonic() < ends:
        number += 1
        services.send(organization, user, room_id=room.pk, body=f"hall {user.pk} {number}")
        time.sleep(0.02)
    connection.close()
speakers = [threading.Thread(target=speak, args=[user]) for user in users[:4]]
for speaker in speakers:
    speaker.start()
chance, inside = random.Random(seed), set()
while time.monotonic() < ends - 1:
    user = chance.choice(users[4:])
    if user in inside:
        services.leave(organization, user, room_id=room.pk)
        inside.remove(user)
    else:
        services.join(organization, user, room_id=room.pk)
        inside.add(user)
    time.sleep(chance.uniform(0, 0.2))
for speaker in speakers:
    speaker.join()
print(room.topic)
"""
EVENTS = """
    SELECT e.seq, e.payload->>'body',
        COALESCE(e.access_change->'grants', '[]'), COALESCE(e.access_change->'withdraws', '[]')
    FROM orgrealtime_notificationevent e WHERE e.topic = %s ORDER BY e.seq
"""


class Said(NamedTuple):
    """What everybody was to get of a room, by user: all while they were in it; and who was in it at the end."""

    of: dict[int, list[str]]
    inside: set[int]
    changes: int


def said(rig: Rig, load: Load, topic: str) -> Said:
    blind = {client.user_id for client in load.clients if client.org == ORG and client.log.types is not None}
    inside: set[int] = set()
    of: dict[int, list[str]] = defaultdict(list)
    changes = 0
    for _, body, grants, withdraws in rig.database.sql(EVENTS, topic):
        inside |= set(grants)
        inside -= set(withdraws)
        changes += bool(grants or withdraws)
        for user in inside - blind if body else ():  # to guests no messages are shown
            of[user].append(body)
    return Said(of, inside, changes)


def take_out(load: Load) -> dict[int, list[str]]:
    """What the clients got of the hall, in the order in which it came; the load is judged without."""
    got = {}
    for client in load.clients:
        of_hall = [each for each in client.log.receipts if each.mark and each.mark.startswith("hall ")]
        client.log.receipts = [each for each in client.log.receipts if each not in of_hall]
        if client.org == ORG:
            got[client.user_id] = [each.mark or "" for each in of_hall]
    return got


async def people_come_and_go(rig: Rig, load: Load, seconds: float) -> str:
    return (await rig.host.script(HALL, ORG, seconds, rig.seed + len(rig.results))).strip()


async def check(rig: Rig, load: Load, topic: str) -> None:
    """Everybody has had all that was said while they were in the room, once and in order, and nothing else."""
    await load.caught_up(within=12)
    expected = await asyncio.to_thread(said, rig, load, topic)
    clients = [client for client in load.clients if client.org == ORG]
    last = {user: bodies[-1] for user, bodies in expected.of.items() if user in expected.inside}
    assert len(last) >= 3
    await load.until(
        lambda: all(last.get(client.user_id) in {None, *client.marks} for client in clients),
        12,
        "the hall is read",
    )
    got = take_out(load)
    wrong = {
        user: {
            "missing": len(set(expected.of[user]) - set(mine)),
            "too many": len(set(mine) - set(expected.of[user])),
        }
        for user, mine in got.items()
        if mine != expected.of[user]
    }
    load.measured(f"{expected.changes} joined or left, {sum(map(len, got.values()))} receipts in the room")
    assert expected.changes > 20
    assert not wrong, json.dumps(wrong)


async def test_f57_people_join_and_leave_and_rings_get_lost(rig: Rig) -> None:
    async with (
        rig.site_with(FAULTS_LOSSY=str(rig.seed)),
        rig.load(
            "F57", "30 % of rings dropped while people come and go", "none lost, none leaked, in order"
        ) as load,
    ):
        topic = await people_come_and_go(rig, load, 20)
        await check(rig, load, topic)


async def test_f58_people_join_and_leave_and_a_worker_is_killed(rig: Rig) -> None:
    """Whoever comes back while they are in the room gets what they missed of it, and who has left meanwhile doesn't."""
    async with rig.load(
        "F58", "kill -9 of a worker while people come and go", "none leaked, in order"
    ) as load:
        going = asyncio.create_task(people_come_and_go(rig, load, 15))
        await asyncio.sleep(6)
        os.kill(rig.processes.workers()[0], signal.SIGKILL)
        topic = await going
        await load.caught_up(within=12)
        expected = await asyncio.to_thread(said, rig, load, topic)
        for user, mine in take_out(load).items():
            allowed = iter(expected.of[user])
            assert all(body in allowed for body in mine), user  # a part of it, in order
            if user in expected.of and len(expected.of[user]) > 300:  # of those who were in it all the time
                assert mine == expected.of[user]
        load.measured(f"{expected.changes} joined or left")
