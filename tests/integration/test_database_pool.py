"""Django's pool of PostgreSQL connections, after the server has closed them all."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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


FORK = """
import os, sys
import django
django.setup()
from django.db import connection
import orgrealtime.concurrency.threads

def ask():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]

ask()
with connection.cursor() as cursor:
    cursor.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    backends = {pid for pid, in cursor.fetchall()}
if "closed" in sys.argv:
    connection.close()
reader, writer = os.pipe()
child = os.fork()
if not child:
    os.write(writer, str(ask()).encode())
    connection.close()
    connection.close_pool()
    os._exit(0)
os.waitpid(child, 0)
of_child = int(os.read(reader, 20))
print("child", "inherited" if of_child in backends else "own")
# A pool may give another of its connections than it gave before.
print("parent", "lost" if of_child == ask() else "own")
connection.close()
connection.close_pool()
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script in the environment of the example, which has a pool."""
    site = Site()
    paths = os.pathsep.join([str(EXAMPLE), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_SECONDS,
            **{**site.popen_options, "env": {**site.environ, "PYTHONPATH": paths}},
        )
    finally:
        site.close()
    assert done.returncode == 0, done.stderr
    return done


def test_one_error_makes_the_pool_drop_all_dead_connections() -> None:
    first, *rest = run(SCRIPT).stdout.split("\n")
    assert int(first.split()[1]) >= 7
    assert [line for line in rest if line] == ["failed", *["answered"] * 8]


@pytest.mark.slow
@pytest.mark.parametrize("state", ["closed", "held"])
def test_forked_process_opens_a_pool_of_its_own_and_says_so(state: str) -> None:
    """Else the two would talk over each other by the same sockets, or wait for threads that haven't come along."""
    done = run(FORK, state)
    assert done.stdout.split("\n")[:2] == ["child own", "parent own"]
    assert done.stderr.count("a pool of connections was open before the fork") == 1
