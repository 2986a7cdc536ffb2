"""A process under gevent, as of `celery -P gevent` or `gunicorn -k gevent`: it publishes as any other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients import log_in
from tests.servers import EXAMPLE, Site
from tests.waiting import LIMIT_SECONDS, eventually

pytestmark = pytest.mark.slow  # a site and a process of their own

# Greenlets take turns whenever one waits for the database or for Redis.
SCRIPT = """
from gevent import monkey
monkey.patch_all()
import gevent
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
from orgrealtime import publish
from orgrealtime.delivery import bell
from tracker.models import Organization

failed = []
def publish_some(first):
    try:
        acme = Organization.objects.get(slug="acme")
        for number in range(first, first + 10):
            publish(acme, "note", {"number": number})
            gevent.sleep(0.01)
    except Exception as error:
        failed.append(repr(error))

def ask_for_streams():
    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(User.objects.get(username="alice"))
    for _ in range(10):
        assert client.get("/orgs/acme/notifications/?limit=1").status_code == 200
        assert client.get("/orgs/acme/notifications/stream/").status_code == 501
        gevent.sleep(0.01)

work = [gevent.spawn(publish_some, first) for first in range(0, 50, 10)]
work.append(gevent.spawn(ask_for_streams))
gevent.joinall(work, raise_error=True)
print(failed, bell.flush(LIMIT))
"""

FOLDER = Path(__file__).parent


@pytest.mark.parametrize("settings", ["config.settings", "core_layer"])
async def test_events_of_a_gevent_process_arrive_and_its_queries_work(settings: str) -> None:
    with Site(environ={"DJANGO_SETTINGS_MODULE": settings, "PYTHONPATH": str(FOLDER)}) as site:
        async with log_in(site, "alice") as alice, alice.socket() as hers:
            await hers.synced()
            done = await asyncio.to_thread(
                subprocess.run,
                [sys.executable, "-c", SCRIPT.replace("LIMIT", str(LIMIT_SECONDS))],
                cwd=EXAMPLE,
                env=site.environ,
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * LIMIT_SECONDS,
            )
            assert done.stdout.strip() == "[] True", done.stderr
            await eventually(lambda: len(hers.events) == 50, "all events have arrived")
