"""What connections cost while nothing happens: pings of the server, polls of the hub (P11)."""

from __future__ import annotations

from benchmarks import candidates, machine
from benchmarks.candidates import Candidate
from benchmarks.run import Options, say, side_by_side
from benchmarks.table import Figure

CLIENTS = 5000


def measure(candidate: Candidate, clients: int, seconds: float) -> dict[str, float]:
    """Percent of a core per 1,000 connections."""
    with candidate.crowd() as crowd:
        crowd.connect(clients)
        crowd.watch(5)
        before = machine.cpu_seconds(candidate.pid)
        crowd.watch(seconds)
        cpu = machine.cpu_seconds(candidate.pid) - before
    return {"cpu": cpu / seconds * 100 / (clients / 1000)}


def figures(options: Options) -> list[Figure]:
    """P11."""
    clients, seconds = options.size(CLIENTS, 500), options.size(60, 10)
    say(f"{clients} idle connections")
    opens = [candidates.orgrealtime, candidates.orgrealtime_frames, candidates.plain_channels]
    values = side_by_side(opens, options, lambda one: measure(one, clients, seconds))
    return [Figure("P11", f"{clients} idle connections: of a core per 1,000", "%", values["cpu"], {})]
