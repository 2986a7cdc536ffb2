"""What was committed, as the publishing side was told and as the database has it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg

from tests.faults.checker import Address, ClientLog, Committed

MARK = "COALESCE(e.payload->>'mark', e.payload->>'body')"  # a message in a room is marked by its text
# What `Ledger.event` takes, of an event `e` of an organisation `o`.
EVENT = f"{MARK}, o.slug, e.seq, e.audience, e.type, e.topic"
COMMITTED = f"""
    SELECT {EVENT}
    FROM orgrealtime_notificationevent e JOIN tracker_organization o ON o.id = e.organization_id
    WHERE {MARK} LIKE %s
"""  # noqa: S608 - of constants


class Acknowledged(NamedTuple):
    """An event that a publisher was told is committed; `begun` is when it called `publish`, by the rig's clock."""

    address: Address
    begun: float


@dataclass
class Ledger:
    """The events of one scenario; `failed` are those for which `publish` raised: only the database knows of them.

    `rooms` are the names of those who are in a room, by its topic.
    """

    run: str
    rooms: dict[str, frozenset[str]] = field(default_factory=dict)
    users: dict[int, str] = field(default_factory=dict)
    acknowledged: dict[str, Acknowledged] = field(default_factory=dict)
    milliseconds: list[tuple[float, float]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def due(self, log: ClientLog, *, since: float = -math.inf) -> set[str]:
        """The marks that this client must have or get, of what was published after `since`."""
        return {
            mark
            for mark, (address, begun) in self.acknowledged.items()
            if begun > since and address.includes(log)
        }

    def p99(self, begin: float, end: float) -> float:
        """Milliseconds that `publish` took, of those that returned within these seconds of the rig's clock."""
        # The first 50 find the pool and the caches empty.
        took = sorted(each for at, each in self.milliseconds[50:] if begin <= at <= end)
        return took[int(len(took) * 0.99)] if took else 0.0

    async def committed(self, database_url: str, *, pending: bool = False) -> list[Committed]:
        """What the database has of this run.

        Raises AssertionError for an event that was never numbered; with `pending` such an event has number 0.
        """
        rows = await asyncio.to_thread(self._rows, database_url)
        assert len({row[0] for row in rows}) == len(rows), "events have been published twice"
        assert pending or all(row[2] is not None for row in rows), "events without a number are left"
        return [self.event(*row) for row in rows]

    def event(
        self,
        mark: str,
        slug: str,
        seq: int | None,
        audience: list[int] | None,
        kind: str,
        topic: str | None = None,
    ) -> Committed:
        """An event as the database has it."""
        users = None if audience is None else frozenset(self.users.get(each, "?") for each in audience)
        if topic is not None:
            users = self.rooms[topic]
        return Committed(mark, seq or 0, Address(slug, users, kind))

    def _rows(
        self, database_url: str
    ) -> list[tuple[str, str, int | None, list[int] | None, str, str | None]]:
        with psycopg.connect(database_url) as connection:
            return connection.execute(COMMITTED, [f"{self.run}-%"]).fetchall()
