"""What an event costs Redis and PostgreSQL as processes and clients become more (P9)."""

from __future__ import annotations

import psycopg
import redis

from benchmarks import candidates
from benchmarks.candidates import Candidate, ManyWorkers, QuietSite
from benchmarks.run import Options, say
from benchmarks.table import Figure

EVENTS = 50
PAUSE = 0.05  # between events, so that each is one flush


def measure(candidate: Candidate, clients: int, url: str) -> dict[str, float]:
    """Redis' commands and bytes, and PostgreSQL's transactions, per event, less what happens without events."""
    with candidate.crowd() as crowd, candidate.publishing() as publisher:
        crowd.connect(clients)
        publisher.do("burst 1")
        crowd.watch(3)
        seconds = EVENTS * PAUSE
        idle = _work(candidate, url)
        crowd.watch(seconds)
        idle = {name: value - idle[name] for name, value in _work(candidate, url).items()}
        before = _work(candidate, url)
        publisher.tell(f"rate {1 / PAUSE:g} {seconds:g}")
        crowd.expect(EVENTS, seconds + 20)
        publisher.wait()
        after = _work(candidate, url)
    return {name: (after[name] - before[name] - idle[name]) / EVENTS for name in after}


def _work(candidate: Candidate, url: str) -> dict[str, float]:
    with redis.Redis.from_url(url) as client:
        stats = client.info("stats")
    found = {"commands": stats["total_commands_processed"], "bytes": stats["total_net_output_bytes"]}
    database = candidate.environ.get("DATABASE_URL")
    if isinstance(candidate.server, QuietSite) and database:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("SELECT pg_stat_clear_snapshot()")
            row = connection.execute(
                "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
            ).fetchone()
        assert row is not None
        found["transactions"] = row[0]
    return found


def figures(options: Options) -> list[Figure]:
    """P9."""
    found: dict[str, dict[str, list[float]]] = {}
    for processes, clients in [(1, 1), (1, 1000), (4, 1000), (16, 1000)][: options.size(4, 2)]:
        say(f"{processes} processes, {clients} clients")
        kind = type("Workers", (ManyWorkers,), {"count": processes})
        with candidates.site(kind) as candidate:
            _keep(
                found,
                f"orgrealtime, {processes} x {clients // processes}",
                measure(candidate, clients, candidate.environ["REDIS_URL"]),
            )
    for layer in ("pubsub", "core"):
        for clients in (1, 1000):
            with candidates.plain_channels(layer) as candidate:
                _keep(
                    found,
                    f"Channels, {layer}, 1 x {clients}",
                    measure(candidate, clients, candidate.environ["REDIS_URL"]),
                )
    return [
        Figure("P9", f"{name} per event; processes x clients of each", unit, found.get(key, {}), {})
        for key, name, unit in (
            ("commands", "commands of Redis", ""),
            ("bytes", "bytes sent by Redis", "B"),
            ("transactions", "transactions of PostgreSQL, the publisher's included", ""),
        )
    ]


def _keep(found: dict[str, dict[str, list[float]]], name: str, measured: dict[str, float]) -> None:
    say(f"  {name}: " + ", ".join(f"{key} {value:.1f}" for key, value in measured.items()))
    for key, value in measured.items():
        found.setdefault(key, {}).setdefault(name, []).append(value)
