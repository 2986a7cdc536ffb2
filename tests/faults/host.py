"""The host project's own code, run beside the site: what its views and its people do."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType

from tests import servers
from tests.faults import trouble
from tests.faults.client import Client

REMOVE = """
import json, sys, time
import django
django.setup()
from tracker.models import Membership
print("ready", flush=True)
sys.stdin.readline()
moments = []
for user, org, role in json.loads(sys.argv[1]):
    Membership.objects.get(user__username=user, organization__slug=org).delete()
    moments.append(time.monotonic())
print(json.dumps(moments))
"""
GIVE_BACK = """
import json, sys
import django
django.setup()
from django.contrib.auth.models import User
from tracker.models import Membership, Organization
for user, org, role in json.loads(sys.argv[1]):
    Membership.objects.get_or_create(
        user=User.objects.get(username=user),
        organization=Organization.objects.get(slug=org),
        defaults={"role": role},
    )
"""
CHECK = """
import json, select, sys
import django
django.setup()
from orgrealtime.delivery import bell
pairs, number = json.loads(sys.argv[1]), 0
while not select.select([sys.stdin], [], [], 0.03)[0]:
    bell.check_user(*pairs[number % len(pairs)])
    number += 1
print(number)
"""
HOLD = """
import sys
import django
django.setup()
from django.db import transaction
from orgrealtime import publish
from tracker.models import Organization
with transaction.atomic():
    publish(Organization.objects.get(slug=sys.argv[1]), "note", {"mark": sys.argv[2]})
    print("held", flush=True)
    sys.stdin.readline()
"""
STREAM = """
import select, sys, time
import django
django.setup()
from django.db import transaction
from orgrealtime import publish
from tracker.models import Organization
organization, rate, kind = Organization.objects.get(slug=sys.argv[2]), float(sys.argv[3]), sys.argv[4]
together = 20
number, begin = 0, time.monotonic()
while not select.select([sys.stdin], [], [], max(0, begin + number / rate - time.monotonic()))[0]:
    with transaction.atomic():
        for _ in range(together):
            number += 1
            publish(organization, kind, {"mark": f"{sys.argv[1]}-stream{number}"})
print(number / (time.monotonic() - begin))
"""
BURST = """
import sys, time
import django
django.setup()
from django.db import transaction
from orgrealtime.delivery import bell
from orgrealtime.models import NotificationEvent
from tracker.models import Organization
run, slug, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
organization = Organization.objects.get(slug=slug)
with transaction.atomic():
    for begin in range(0, count, 2000):
        NotificationEvent.objects.bulk_create(
            NotificationEvent(
                organization=organization, type="note", payload={"mark": f"{run}-burst-{slug}-{number}"}
            )
            for number in range(begin, min(count, begin + 2000))
        )
print(time.monotonic())
bell.ring(organization.pk)
bell.flush()
"""
TOUCH = """
import sys
import django
django.setup()
from tracker.models import Membership
membership = Membership.objects.get(user__username=sys.argv[1], organization__slug=sys.argv[2])
membership.save()
membership.organization.save()
"""


class Host:
    """Python in the environment of the site."""

    def __init__(self, site: servers.Site, folder: Path) -> None:
        self._site = site
        self._folder = folder

    async def script(self, text: str, *arguments: object, **environ: str) -> str:
        """Run Python in the site's environment; return what it prints."""
        process = await self.python("-c", text, *arguments, environ=environ)
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()

    async def python(
        self,
        *arguments: object,
        stderr: int | None = asyncio.subprocess.PIPE,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *map(str, arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            limit=1 << 20,
            cwd=servers.EXAMPLE,
            env={**self._site.environ, **environ},
        )

    async def touch(self, client: Client) -> None:
        """Save a membership and its organisation as they are, so that access is checked."""
        await self.script(TOUCH, client.user, client.org)

    async def remove_membership(self, client: Client) -> float:
        """Delete a membership as a view would; return when that was, by the rig's clock."""
        return (await self.remove_memberships([client]))[0]

    async def remove_memberships(self, clients: Sequence[Client]) -> list[float]:
        """Delete memberships, one after the other; return when each was deleted, by the rig's clock."""
        return await (await self.ready_to_remove(clients))()

    async def ready_to_remove(self, clients: Sequence[Client]) -> Callable[[], Awaitable[list[float]]]:
        """Have a process ready that does the same at once when what is returned is called."""
        process = await self.python("-c", REMOVE, _memberships(clients))
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"

        async def remove() -> list[float]:
            out, err = await process.communicate(b"\n")
            assert process.returncode == 0, err.decode()
            moments: list[float] = json.loads(out)
            return moments

        return remove

    @asynccontextmanager
    async def membership_given_back(self, *clients: Client) -> AsyncIterator[None]:
        """What was removed meanwhile is there again for the next scenario."""
        try:
            yield
        finally:
            await self.script(GIVE_BACK, _memberships(clients))

    @asynccontextmanager
    async def access_questioned(self, pairs: Sequence[tuple[int, int]]) -> AsyncIterator[None]:
        """Hints that the access of these users to these organisations may have ended come meanwhile, 30 a second."""
        process = await self.python("-c", CHECK, json.dumps(pairs))
        try:
            yield
        finally:
            out, err = await process.communicate(b"\n")
            assert process.returncode == 0, err.decode()
        assert int(out) > 0

    @asynccontextmanager
    async def stream_of_events(
        self, run: str, org: str, *, per_second: float, kind: str = "note"
    ) -> AsyncIterator[list[float]]:
        """A process publishes to one organisation meanwhile, 20 events to a transaction; afterwards gives the rate."""
        process = await self.python("-c", STREAM, run, org, per_second, kind)
        rates: list[float] = []
        try:
            yield rates
        finally:
            out, err = await process.communicate(b"\n")
            assert process.returncode == 0, err.decode()
            rates.append(float(out))

    async def burst(self, run: str, org: str, count: int) -> float:
        """Publish so many events to this organisation by one transaction; return when it was committed."""
        return float(await self.script(BURST, run, org, count))

    @asynccontextmanager
    async def trouble(self, where: str, how: str, client: Client) -> AsyncIterator[None]:
        """Code of the host hangs or fails for one user (`tests.faults.trouble`)."""
        file = self._folder / trouble.FILE
        file.write_text(f"{where} {how} {client.user_id}")
        try:
            yield
        finally:
            file.unlink()

    async def manage(self, *arguments: str) -> str:
        return await asyncio.to_thread(self._site.manage, *arguments)

    @asynccontextmanager
    async def open_transaction(self, run: str, org: str) -> AsyncIterator[None]:
        """A process has published to this organisation and doesn't commit until the end."""
        process = await self.python("-c", HOLD, org, f"{run}-held")
        assert process.stdout
        assert await process.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            await process.communicate(b"\n")

    async def crash(self, where: int, run: str, org: str, times: int) -> None:
        """Processes publish one event each to this organisation, and die at a point of `tests.faults.crash`."""
        process = await self.python("-m", "tests.faults.crash", where, org, run, times)
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()


def _memberships(clients: Sequence[Client]) -> str:
    return json.dumps([[client.user, client.org, client.role] for client in clients])
