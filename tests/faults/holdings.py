"""What the site holds: in quiet it is no more than before."""

from __future__ import annotations

from dataclasses import dataclass

from tests.faults.processes import Processes
from tests.faults.stores import Cache, Database


@dataclass(frozen=True)
class Holdings:
    """Resources held; tasks, descriptors and threads are those of the worker that has most."""

    tasks: int
    tickets: int
    descriptors: int
    threads: int
    redis_keys: int
    counted: int
    redis_channels: int
    backends: int
    transactions: int
    pending: int

    def beyond(self, quiet: Holdings) -> list[str]:
        """What is held beyond what was held in quiet.

        Pools may have grown: 20 database connections for each of two workers by configuration, each a descriptor, and
        asyncio's pool of at most 6 threads on 2 processors beside the library's own. A leak of one thing per client or
        event would be 50 or thousands.
        """
        allowed = {
            "tasks": 10,
            "descriptors": 30,
            "threads": 8,
            "redis_keys": 4,
            "backends": 40,
            "redis_channels": 2,
        }
        return [
            f"{name}: {count}, was {getattr(quiet, name)}"
            for name, count in vars(self).items()
            if count > getattr(quiet, name) + allowed.get(name, 0)
        ]


def held(processes: Processes, database: Database, cache: Cache) -> Holdings:
    """What is held now."""
    backends = database.sql("SELECT state FROM pg_stat_activity WHERE backend_type = 'client backend'")
    return Holdings(
        tasks=processes.most_tasks(),
        tickets=database.sql("SELECT count(*) FROM orgrealtime_ticket")[0][0],
        descriptors=processes.most_descriptors(),
        threads=processes.most_threads(),
        redis_keys=cache.lasting_keys(),
        counted=cache.counted_connections(),
        redis_channels=len(cache.command("PUBSUB", "CHANNELS")),
        backends=len(backends),
        transactions=sum(state not in {"idle", "active"} for (state,) in backends),
        pending=database.sql("SELECT count(*) FROM orgrealtime_notificationevent WHERE seq IS NULL")[0][0],
    )
