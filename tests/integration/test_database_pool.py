"""Django's pool of PostgreSQL connections, after the server has closed them all."""

from __future__ import annotations

import subprocess
import sys

from tests.servers import EXAMPLE, Site
from tests.waiting import LIMIT_SECONDS

SCRIPT = """
import asyncio
import django
django.setup()
from concurrent.futures import ThreadPoolExecutor
import threading
from django.db import DatabaseError, connection
from orgrealtime.concurrency import threads as pools
from orgrealtime.stream import database

def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")

everyone = threading.Barrier(8)
def hold(number):
    ask()
    everyone.wait()
    connection.close()

with ThreadPoolExecutor(8) as threads:
    list(threads.map(hold, range(8)))
with connection.cursor() as cursor:
    cursor.execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    print("killed", cursor.fetchone()[0])

async def main():
    try:
        await database.LIVE.run(ask)
    except DatabaseError:
        print("failed")
    for _ in range(8):
        await database.LIVE.run(ask)
        print("answered")

asyncio.run(main())
pools.close_all()
connection.close()
connection.close_pool()
"""


def test_one_error_makes_the_pool_drop_all_dead_connections() -> None:
    site = Site()
    try:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
            **{**site.popen_options, "env": {**site.environ, "PYTHONPATH": str(EXAMPLE)}},
        )
    finally:
        site.close()
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.split("\n")
    assert int(first.split()[1]) >= 7
    assert [line for line in rest if line] == ["failed", *["answered"] * 8]
