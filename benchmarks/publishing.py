"""What `publish()` adds to a transaction that writes one row, and how many can be published (P6)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence

from benchmarks import candidates
from benchmarks.candidates import QuietSite
from benchmarks.run import Options, say
from benchmarks.table import Figure
from tests.servers import EXAMPLE

COSTS = """
import json, statistics, sys, time
import django
django.setup()
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.db import transaction
from orgrealtime import publish
from orgrealtime.models import NotificationEvent
from tracker.models import Organization

PAYLOAD = {"task_id": 123, "action": "status_changed", "details": {"from": "todo", "to": "done"}}
organization = Organization.objects.get(slug="acme")
alice = get_user_model().objects.get(username="alice")
layer = get_channel_layer()

def nothing():
    pass

def create():
    NotificationEvent.objects.create(organization=organization, type="note", payload=PAYLOAD, actor=alice)

def ours():
    publish(organization, "note", PAYLOAD, actor=alice)

def channels():
    message = {"type": "notify", "event": PAYLOAD}
    transaction.on_commit(lambda: async_to_sync(layer.group_send)("org-1", message))

def timed(call):
    begin = time.perf_counter()
    with transaction.atomic():
        organization.save(update_fields=["name"])
        call()
    return time.perf_counter() - begin

ways = {"nothing": nothing, "create": create, "publish": ours, "channels": channels}
times = {name: [] for name in ways}
for number in range(int(sys.argv[1])):
    for name, way in ways.items():
        times[name].append(timed(way))
medians = {name: statistics.median(took[20:]) for name, took in times.items()}
print(json.dumps({name: (median - medians["nothing"]) * 1e6 for name, median in medians.items()}))
"""
WRITER = """
import sys, time
import django
django.setup()
from django.db import transaction
from orgrealtime import publish
from tracker.models import Organization

organizations = [Organization.objects.get(slug=slug) for slug in sys.argv[2:]]
PAYLOAD = {"task_id": 123, "action": "status_changed", "details": {"from": "todo", "to": "done"}}
print("ready", flush=True)
sys.stdin.readline()
count, end = 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    organization = organizations[count % len(organizations)]
    with transaction.atomic():
        publish(organization, "note", PAYLOAD)
    count += 1
print(count)
"""


def costs(site: QuietSite, times: int) -> dict[str, float]:
    """Microseconds that each way adds to a transaction, its commit and what follows it included."""
    command = [sys.executable, "-c", COSTS, str(times)]
    done = subprocess.run(command, env=site.environ, cwd=EXAMPLE, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def rate(site: QuietSite, writers: int, slugs: Sequence[str], seconds: float) -> float:
    """How many transactions with one event commit in a second."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(seconds), *slugs[number:], *slugs[:number]],
            env=site.environ,
            cwd=EXAMPLE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(writers)
    ]
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    begun, total = time.monotonic(), 0
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        total += int(process.communicate()[0])
    return total / (time.monotonic() - begun)


def figures(options: Options) -> list[Figure]:
    """P6."""
    say("publish() in a transaction")
    added: dict[str, list[float]] = defaultdict(list)
    rates: dict[str, list[float]] = defaultdict(list)
    seconds = options.size(5, 1)
    for _ in range(options.runs):
        with candidates.site() as candidate:
            assert isinstance(candidate.server, QuietSite)
            for name, value in costs(candidate.server, options.size(600, 60)).items():
                added[name].append(value)
            slugs = candidates.organizations(candidate, 100)
            for writers in (1, 8):
                for where, names in (("1 organisation", slugs[:1]), ("100 organisations", slugs)):
                    rates[f"{writers} writers, {where}"].append(
                        rate(candidate.server, writers, names, seconds)
                    )
        say(
            f"  publish {added['publish'][-1]:.0f} µs, create {added['create'][-1]:.0f} µs, "
            + str(dict(rates))
        )
    by_name = {
        "orgrealtime": added["publish"],
        "a bare create()": added["create"],
        "Channels' group_send on commit": added["channels"],
    }
    goals = {"a bare create()": 1.3, "Channels' group_send on commit": 0.1}
    hot = {"orgrealtime, 1 organisation": rates["8 writers, 1 organisation"]}
    hot["100 organisations"] = rates["8 writers, 100 organisations"]
    alone = {f"orgrealtime, {name}": values for name, values in rates.items()}
    return [
        Figure("P6", "added to a transaction that writes one row", "µs", by_name, goals),
        Figure("P6", "events per second, 8 writers", "/s", hot, {"100 organisations": 0.7}, rate=True),
        Figure("P6", "events per second", "/s", alone, {}, rate=True),
    ]
