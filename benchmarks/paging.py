"""A page of 100 events for one who comes back, however large the table is (P8)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict

from benchmarks.candidates import SITE_ENVIRON, QuietSite
from benchmarks.run import Options, say
from benchmarks.table import Figure
from tests.servers import EXAMPLE

# The organisation's own events are a tenth of the table, spread over it as those of others come in between.
SCRIPT = """
import json, statistics, sys, time
import django
django.setup()
from django.contrib.auth import get_user_model
from django.db import connection
from orgrealtime import stream
from orgrealtime.access import Access
from orgrealtime.protocol.cursors import Cursor
from tracker.models import Organization

rows, times = int(sys.argv[1]), int(sys.argv[2])
own = Organization.objects.get(slug="acme")
others = [Organization.objects.get_or_create(slug=f"other-{n}", defaults={"name": "x"})[0] for n in range(9)]
ids = [own.pk, *(other.pk for other in others)]
with connection.cursor() as cursor:
    cursor.execute(
        '''
        INSERT INTO orgrealtime_notificationevent (organization_id, seq, type, payload, created_at)
        SELECT (%s::bigint[])[1 + n %% 10], 1 + n / 10, 'note', '{"task_id": 123, "action": "moved"}', now()
        FROM generate_series(0, %s) AS n
        ''',
        [ids, rows - 1],
    )
    for pk in ids:
        cursor.execute("UPDATE orgrealtime_stream SET head = %s WHERE organization_id = %s", [rows // 10, pk])
    cursor.execute("VACUUM ANALYZE orgrealtime_notificationevent")
epoch = stream.position(own).epoch
access = Access(own.pk, get_user_model().objects.get(username="alice").pk)
found = {}
for name, seq in (("newest", rows // 10 - 100), ("oldest", 0)):
    took = []
    for _ in range(times):
        begin = time.perf_counter()
        page = stream.read(own.pk, Cursor(epoch, seq), access=access, limit=100)
        took.append(time.perf_counter() - begin)
        assert len(page.events) == 100
    found[name] = statistics.median(took) * 1e3
print(json.dumps(found))
"""
SIZES = [10_000, 1_000_000, 10_000_000]


def figures(options: Options) -> list[Figure]:
    """P8."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rows in SIZES[: options.size(3, 2)]:
        say(f"pages of a table of {rows:,} events")
        with QuietSite(environ=SITE_ENVIRON) as site:
            command = [sys.executable, "-c", SCRIPT, str(rows), "300"]
            done = subprocess.run(
                command, env=site.environ, cwd=EXAMPLE, capture_output=True, text=True, check=True
            )
        for cursor, milliseconds in json.loads(done.stdout).items():
            say(f"  {cursor}: {milliseconds:.2f} ms")
            values[cursor][f"orgrealtime, {rows:,} rows"].append(milliseconds)
    smallest = f"orgrealtime, {SIZES[0]:,} rows"
    return [
        Figure("P8", f"page of 100 from the {cursor} cursor", "ms", by_size, {smallest: 1.3})
        for cursor, by_size in values.items()
    ]
