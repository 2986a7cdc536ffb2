"""What `publish()` adds to a transaction that writes one row, in a process with the example's settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import NamedTuple

from benchmarks.fanout import ROOT
from tests.servers import EXAMPLE, Site


class Costs(NamedTuple):
    """Medians in seconds per call, within one transaction each."""

    publish: float
    create: float


SCRIPT = """
import json, statistics, time
import django
django.setup()
from django.contrib.auth import get_user_model
from django.db import models, transaction
from orgrealtime import bell, publish
from orgrealtime.models import NotificationEvent
from tracker.models import Organization

PAYLOAD = {"task_id": 123, "action": "status_changed", "details": {"from": "todo", "to": "done"}}
organization = Organization.objects.get(slug="acme")
alice = get_user_model().objects.get(username="alice")

def bare():
    NotificationEvent.objects.create(organization=organization, type="note", payload=PAYLOAD, actor=alice)

def ours():
    publish(organization, "note", PAYLOAD, actor=alice)

def timed(call):
    with transaction.atomic():
        organization.save(update_fields=["name"])
        begin = time.perf_counter()
        call()
        took = time.perf_counter() - begin
        transaction.set_rollback(True)
    return took

times = {"publish": [], "create": []}
for _ in range(600):
    times["publish"].append(timed(ours))
    times["create"].append(timed(bare))
print(json.dumps({name: statistics.median(took[100:]) for name, took in times.items()}))
"""


def measure(site: Site) -> Costs:
    """Time both in turn, 600 times."""
    environ = {**site.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(EXAMPLE)])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environ, cwd=EXAMPLE, capture_output=True, text=True, check=True
    )
    return Costs(**json.loads(done.stdout))
