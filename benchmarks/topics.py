"""What an event of a topic costs a process where few of its connections have the topic (P13).

In the process itself, without sockets and database: a feed offers events that ten connections get, once in an
organisation of these ten, and once in one of 5,000. Now and then comes an event that is for all.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from typing import Any

import django

from benchmarks.run import Options, say
from benchmarks.table import Figure
from tests.servers import EXAMPLE

READERS = 10
EPOCH = "00000000"
TEXT = '{"type":"chat.message","cursor":"%s","body":"' + "x" * 120 + '"}'


async def sent_nowhere(message: dict[str, Any]) -> None:
    """As a server whose socket takes everything at once."""


async def costs(connections: int, events: int) -> tuple[float, float]:
    """Microseconds of CPU for each event of the topic, and for each that is for all after a hundred of those."""
    from orgrealtime.access import Access
    from orgrealtime.delivery.chunks import Chunk
    from orgrealtime.delivery.connection import Connection
    from orgrealtime.delivery.feed import Feed, FeedReader
    from orgrealtime.delivery.registry import Registry
    from orgrealtime.protocol.cursors import Cursor, Position
    from orgrealtime.stream.types import StreamEvent

    feed = Feed(1, Position(EPOCH, 0, 0), FeedReader(lambda: None), Registry())
    for user in range(connections):
        topics = ["room-1", "room-2"] if user < READERS else ["room-2"]
        access = Access(1, user).with_topics(dict.fromkeys(topics, 0), 0)
        connection = Connection(str(user), None, access, Cursor(EPOCH, 0), sent_nowhere, lambda: None)
        feed.add(connection)
        connection.start([], 0, None)
    of_topic, for_all = [], []
    for seq in range(1, events + 1):
        topic = None if seq % 100 == 0 else "room-1"
        chunk = Chunk([StreamEvent(seq, "chat.message", TEXT % seq, None, topic)], seq, f"{EPOCH}.{seq}")
        began = time.process_time()
        await feed.offer(chunk)
        (for_all if topic is None else of_topic).append(time.process_time() - began)
    feed.stop()
    return 1e6 * sum(of_topic) / len(of_topic), 1e6 * sum(for_all) / len(for_all)


def measure(connections: int, events: int) -> tuple[float, float]:
    """What `costs` says in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.topics", str(connections), str(events)]
    of_topic, for_all = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return of_topic, for_all


def figures(options: Options) -> list[Figure]:
    """P13."""
    many = options.size(5_000, 500)
    names = {f"{READERS} connections": READERS, f"{many} connections": many}
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(options.runs):
        for name, connections in names.items():
            of_topic, for_all = measure(connections, options.size(5_000, 500))
            say(
                f"{name}: {of_topic:.1f} µs for {READERS} of them, {for_all / connections:.2f} µs each for all"
            )
            found["of a topic"][name].append(of_topic)
            found["for all, for each connection"][name].append(for_all / connections)
    few, all_of_them = names
    ours, each = found["of a topic"], found["for all, for each connection"]
    ratio = {"orgrealtime": ours[all_of_them], f"in an organisation of {few}": ours[few]}
    return [
        Figure(
            "P13",
            f"CPU of an event for {READERS} of {many:,} connections",
            "µs",
            ratio,
            {f"in an organisation of {few}": 2.0},
        ),
        Figure(
            "P13",
            "CPU of an event for all after 99 of a topic, by connection",
            "µs",
            each,
            {},
        ),
    ]


if __name__ == "__main__":
    sys.path.insert(0, str(EXAMPLE))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    print(json.dumps(asyncio.run(costs(int(sys.argv[1]), int(sys.argv[2])))))
