"""A41: many organisations, memberships, roles and audiences: everybody receives what they are entitled to, no more.

The entitlement is computed here, from what the publishers say of their events and from who was made a member. Seeded by
`ENTITLEMENT_SEED`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.faults.checker import Address, ClientLog, Committed, check
from tests.faults.client import Client
from tests.faults.ledger import Ledger
from tests.servers import EXAMPLE, Redis, Site
from tests.stopwatch import Stopwatch
from tests.waiting import LIMIT_SECONDS, eventually

SEED = int(os.environ.get("ENTITLEMENT_SEED", "4711"))
ORGS, USERS, SOCKETS = 50, 40, 100
EVENTS, PROCESSES = 10_000, 4
CHANGES = 12
BOUND = 2.0
ROOT = Path(__file__).parent.parent.parent

# Arguments: the number of organisations, of users, and of memberships to choose; the seed.
POPULATE = """
import itertools, json, random, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
from tracker.models import Membership, Organization
count, people, chosen = map(int, sys.argv[1:4])
chance = random.Random(sys.argv[4])
organizations = [Organization.objects.create(name=f"org-{number}", slug=f"org-{number}") for number in range(count)]
users = [User.objects.create(username=f"user-{number}") for number in range(people)]
sessions = {}
for user in users:
    client = Client()
    client.force_login(user)
    sessions[user.pk] = client.cookies["sessionid"].value
members = []
for organization, user in chance.sample(list(itertools.product(organizations, users)), chosen):
    role = "guest" if chance.random() < 0.3 else "member"
    Membership.objects.create(organization=organization, user=user, role=role)
    members.append([organization.slug, user.pk, user.username, sessions[user.pk], role])
print(json.dumps([{user.pk: user.username for user in users}, members]))
"""
# Arguments: what the marks begin with, the number of events, the seed. Prints each event, its transaction committed.
PUBLISH = """
import json, random, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.db import transaction
from orgrealtime import publish
from tracker.models import Organization
name, count, chance = sys.argv[1], int(sys.argv[2]), random.Random(sys.argv[3])
organizations = list(Organization.objects.filter(slug__startswith="org-").order_by("pk"))
users = dict(User.objects.filter(username__startswith="user-").order_by("pk").values_list("pk", "username"))
number = 0
while number < count:
    events = []
    with transaction.atomic():
        for number in range(number + 1, min(count, number + chance.randint(1, 20)) + 1):
            organization = chance.choice(organizations)
            kind = chance.choice(["note", "note", "secret", "other"])
            # Of all users, members or not.
            to = None if chance.random() < 0.5 else chance.sample(list(users), chance.randint(0, 12))
            mark = f"{name}-{number}"
            publish(organization, kind, {"mark": mark}, to=to)
            events.append([mark, organization.slug, kind, None if to is None else [users[each] for each in to]])
    print(json.dumps(events), flush=True)
"""
# Each line that comes in is done: a membership that goes, or another. Prints when, by this machine's clock.
CHANGE = """
import json, sys, time
import django
django.setup()
from tracker.models import Membership, Organization
for line in sys.stdin:
    action, slug, user_id, role = json.loads(line)
    organization = Organization.objects.get(slug=slug)
    if action == "remove":
        Membership.objects.get(organization=organization, user_id=user_id).delete()
    else:
        Membership.objects.create(organization=organization, user_id=user_id, role=role)
    print(time.monotonic(), flush=True)
"""
# Events of an organisation to which nobody is connected have no number until somebody asks.
NUMBER = """
import django
django.setup()
from orgrealtime import stream
from tracker.models import Organization
for organization in Organization.objects.all():
    stream.position(organization)
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    environ = {
        "DJANGO_SETTINGS_MODULE": "tests.faults.settings",
        "FAULTS_FOLDER": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLE), os.environ.get("PYTHONPATH", "")]),
    }
    with Redis() as redis, Site(workers=2, environ=environ | {"REDIS_URL": redis.url}) as site:
        yield site


@pytest.mark.slow
async def test_everybody_receives_what_they_are_entitled_to(site: Site) -> None:
    world = World(site)
    try:
        with Stopwatch() as watch:
            await world.populate()
            changing = asyncio.create_task(world.change_memberships())
            await asyncio.gather(*(world.publish(number) for number in range(PROCESSES)))
            await changing
            committed = await world.committed()
            assert len(committed) == EVENTS
            bound = watch.allowed(BOUND)
            await eventually(
                lambda: not world.verdict(committed, bound)["LOST"],
                "nothing is lost",
                seen=lambda: [world.verdict(committed, bound), *world.endings()],
            )
            await eventually(world.have_left, "those who may not stay are gone", seen=world.endings)
            assert not any(world.verdict(committed, bound).values()), [
                watch.describe(BOUND),
                *world.endings(),
            ]
        assert sum(len(client.marks) for client in world.clients) > EVENTS / 2
        for client in world.clients:
            await world.compare_catch_up(client, committed)
    finally:
        await world.close()


class World:
    """The members of all organisations, connected, and what was published to them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clients: list[Client] = []
        self.addresses: dict[str, Address] = {}
        self._chance = random.Random(SEED)
        self._sessions: dict[int, str] = {}
        self._ledger = Ledger(f"{SEED}")

    async def populate(self) -> None:
        process = await self._python(POPULATE, ORGS, USERS, SOCKETS, SEED)
        users, members = json.loads((await process.communicate())[0])
        self._ledger.users = {int(user_id): name for user_id, name in users.items()}
        for member in members:
            self._connect(*member)
        await eventually(lambda: all(client.is_live for client in self.clients), seen=self.endings)

    def _connect(self, org: str, user_id: int, name: str, session: str, role: str) -> None:
        self._sessions[user_id] = session
        chance = random.Random(f"{SEED} {org} {name}")
        self.clients.append(Client(self.site.port, org, user_id, name, session, chance, role))

    async def publish(self, number: int) -> None:
        process = await self._python(PUBLISH, f"{SEED}-{number}", EVENTS // PROCESSES, f"{SEED} {number}")
        assert process.stdout
        async for line in process.stdout:
            for mark, org, kind, to in json.loads(line):
                self.addresses[mark] = Address(org, None if to is None else frozenset(to), kind)
        assert await process.wait() == 0

    async def change_memberships(self) -> None:
        """While events flow some memberships end, and some users become members elsewhere and connect."""
        process = await self._python(CHANGE)
        leaving = self._chance.sample(self.clients, CHANGES)
        for number, client in enumerate(leaving):
            due = (number + 1) * EVENTS // CHANGES // 2
            await eventually(
                lambda due=due: len(self.addresses) > due, f"{due} events", seen=lambda: len(self.addresses)
            )
            client.log.revoked_at = await _ask(process, "remove", client.org, client.user_id, "")
            newcomer = self._chance.choice(self.clients)
            org = self._free_organization(newcomer)
            role = self._chance.choice(["member", "guest"])
            await _ask(process, "add", org, newcomer.user_id, role)
            self._connect(org, newcomer.user_id, newcomer.user, self._sessions[newcomer.user_id], role)
        await process.communicate(b"")

    def _free_organization(self, of: Client) -> str:
        taken = {client.org for client in self.clients if client.user == of.user}
        return self._chance.choice([org for number in range(ORGS) if (org := f"org-{number}") not in taken])

    async def committed(self) -> list[Committed]:
        """What the database has, numbered, which is what the publishers said."""
        await (await self._python(NUMBER)).communicate()
        committed = await self._ledger.committed(self.site.environ["DATABASE_URL"])
        assert {event.mark: event.address for event in committed} == self.addresses
        return committed

    def verdict(self, committed: list[Committed], bound: float) -> dict[str, int]:
        return check(committed, [client.log for client in self.clients], revocation_bound=bound)

    def have_left(self) -> bool:
        """Whether nobody whose membership has ended is connected any more."""
        return all(client.is_stopped for client in self.clients if client.log.revoked_at < float("inf"))

    def endings(self) -> list[str]:
        """How the connections of those who lost one have ended."""
        return [f"{client.user} at {client.org}: {client.codes}" for client in self.clients if client.codes]

    async def compare_catch_up(self, client: Client, committed: list[Committed]) -> None:
        """The view answers with what the socket got, to the event, and to nobody who isn't a member any more."""
        headers = {"Cookie": f"sessionid={self._sessions[client.user_id]}"}
        async with httpx.AsyncClient(base_url=self.site.url, headers=headers, timeout=LIMIT_SECONDS) as http:
            answer = await _page(http, client.org, client.log.start)
            if client.log.revoked_at < float("inf"):
                assert answer.status_code == 403
                # The other if it was away just then, because its own process was slow.
                assert client.codes[-1] in {4403, "HTTP 403"}
                return
            events = answer.json()["events"]
            while answer.json()["has_more"]:
                answer = await _page(http, client.org, answer.json()["cursor"])
                events += answer.json()["events"]
        assert [event["mark"] for event in events] == _entitled(client.log, committed)
        assert [event["cursor"] for event in events] == [receipt.cursor for receipt in client.log.receipts]

    async def close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))

    async def _python(self, program: str, *arguments: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 20,
            **self.site.popen_options,
        )


async def _ask(process: asyncio.subprocess.Process, *words: object) -> float:
    assert process.stdin
    assert process.stdout
    process.stdin.write((json.dumps(words) + "\n").encode())
    return float(await process.stdout.readline())


async def _page(http: httpx.AsyncClient, org: str, since: str) -> httpx.Response:
    return await http.get(f"/orgs/{org}/notifications/", params={"since": since, "limit": 500})


def _entitled(log: ClientLog, committed: list[Committed]) -> list[str]:
    start = int(log.start.partition(".")[2])
    mine = [event for event in committed if event.seq > start and event.address.includes(log)]
    return [event.mark for event in sorted(mine, key=lambda event: event.seq)]
