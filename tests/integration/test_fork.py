"""A hub that ran before a fork: the child has one of its own, and the parent's goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import EXAMPLE, demo_file, redis_url
from tests.waiting import LIMIT_SECONDS

FOLDER = Path(__file__).parent

pytestmark = pytest.mark.slow  # a process of its own

SCRIPT = """
import asyncio, os
import django
django.setup()
from django.contrib.auth.models import User
from django.db import connections
from config.asgi import application
from orgrealtime import publish
from orgrealtime.delivery.hub import get_hub
from orgrealtime.stream.database import LIVE
from orgrealtime.testing import communicator
from tracker.models import Organization

acme = Organization.objects.get(slug="acme")
headers = communicator.browser_headers(communicator.log_in(User.objects.get(username="alice")))
communicator.OrgCommunicator.patience = 60.0
hubs = []

async def serve(who):
    socket = communicator.OrgCommunicator(application, "/ws/orgs/acme/notifications/", headers)
    assert (await socket.connect())[0]
    await socket.synced()
    hubs.append(get_hub())
    await asyncio.sleep(1)  # beyond the second look
    await LIVE.run(publish, acme, "note", {"who": who})
    (event,) = await socket.next_events(1)
    print(event["who"], flush=True)
    await socket.disconnect()

loop = asyncio.new_event_loop()
loop.run_until_complete(serve("parent"))
for has_same_loop in True, False:
    connections.close_all()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            used = loop if has_same_loop else asyncio.new_event_loop()
            used.run_until_complete(serve("child with the same loop" if has_same_loop else "child with another"))
            assert hubs[0] is not hubs[1]
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
loop.run_until_complete(serve("parent again"))
assert hubs[0] is hubs[1]
"""


@pytest.mark.parametrize("layer", ["in memory", "Redis"])
def test_forked_child_has_a_hub_of_its_own_and_the_parent_keeps_its(tmp_path: Path, layer: str) -> None:
    database = tmp_path / "db.sqlite3"
    shutil.copy(demo_file(), database)
    environ = {
        "DJANGO_SETTINGS_MODULE": "patient",
        "ALLOWED_HOSTS": "testserver",
        "PYTHONPATH": str(FOLDER),
        "DATABASE_URL": f"sqlite:///{database}",
        "REDIS_URL": redis_url() if layer == "Redis" else "",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT],
        cwd=EXAMPLE,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=3 * LIMIT_SECONDS,
    )
    served = ["parent", "child with the same loop", "child with another", "parent again"]
    assert done.stdout.splitlines() == served, done.stderr
