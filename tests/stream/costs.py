"""What PostgreSQL has to do for a statement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections
from django.test.utils import CaptureQueriesContext


def payloads_looked_up() -> int:
    """How many values kept out of their rows this transaction has looked up for events."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_stat_get_xact_numscans(indexrelid) FROM pg_index JOIN pg_class ON reltoastrelid = indrelid "
            "WHERE pg_class.oid = 'orgrealtime_notificationevent'::regclass"
        )
        (scans,) = cursor.fetchone()
    return int(scans)


def blocks_touched(work: Callable[[], Any]) -> int:
    """How many blocks of 8 KB PostgreSQL touches for the last statement of some work; the table has thousands."""
    with CaptureQueriesContext(connections["default"]) as captured:
        work()
    with connections["default"].cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {captured[-1]['sql']}")
        (plan,) = cursor.fetchone()[0]
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
