"""One organisation, many clients: CPU per delivery, time to the last of them, memory (P1-P3, P5)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from benchmarks import candidates, machine
from benchmarks.candidates import Candidate
from benchmarks.run import Options, say, side_by_side
from benchmarks.table import Figure

SOCKETS = [500, 5000]
WARM_UP = 5
PEERS = [
    candidates.orgrealtime,
    candidates.orgrealtime_frames,
    candidates.plain_channels,
    candidates.socketio,
    candidates.nchan,
    candidates.raw,
]
CHANNELS, SOCKETIO, NCHAN, RAW = (
    "Channels, pubsub layer",
    "Socket.IO, Redis adapter",
    "nchan",
    "raw asyncio (uvloop)",
)


def measure(candidate: Candidate, sockets: int, rounds: int, depth: int) -> dict[str, float]:
    """Publish `depth` events at once, `rounds` times, each when the last has reached all clients."""
    with candidate.crowd() as crowd:
        crowd.connect(100)
        crowd.watch(1)
        before = machine.resident_bytes(candidate.pid)
        crowd.connect(sockets - 100)
        crowd.watch(2)
        weight = (machine.resident_bytes(candidate.pid) - before) / (sockets - 100)
        with candidate.publishing() as publisher:
            for _ in range(WARM_UP):
                publisher.tell(f"burst {depth}")
                crowd.expect(depth)
                publisher.wait()
            cpu, begun = machine.cpu_seconds(candidate.pid), time.perf_counter()
            last, lost, deliveries = [], 0, 0
            for _ in range(rounds):
                publisher.tell(f"burst {depth}")
                heard = crowd.expect(depth)
                publisher.wait()
                last.append(heard.last)
                lost += heard.lost
                deliveries += heard.deliveries
            seconds = time.perf_counter() - begun
            cpu = machine.cpu_seconds(candidate.pid) - cpu
    return {
        "cpu": cpu / max(1, deliveries) * 1e6,
        "last": statistics.median(last),
        "rate": deliveries / seconds,
        "lost": lost,
        "weight": weight / 1e3,
    }


def figures(options: Options) -> list[Figure]:
    """P1, P2 and P5 with single events, P3 with bursts of 50."""
    found: list[Figure] = []
    for sockets in SOCKETS[: options.size(2, 1)]:
        say(f"fan-out, one at a time, {sockets} clients")
        rounds = options.size(40 if sockets > 1000 else 200, 10)
        values = side_by_side(PEERS, options, lambda one, n=sockets, r=rounds: measure(one, n, r, 1))  # type: ignore[misc]
        found += _single(values, sockets)
    say("fan-out, bursts of 50, 500 clients")
    bursts = side_by_side(
        [*PEERS, candidates.plain_channels_core],
        options,
        lambda one: measure(one, 500, options.size(20, 3), 50),
    )
    return [*found, *_bursts(bursts)]


def _single(values: Mapping[str, Mapping[str, list[float]]], sockets: int) -> list[Figure]:
    goals = {CHANNELS: 1 / 25, SOCKETIO: 0.9, RAW: 1.5}
    found = [
        Figure("P1", f"server CPU per delivery, {sockets} clients", "µs", values["cpu"], goals),
        Figure("P2", f"time to the last delivery, {sockets} clients", "ms", values["last"], {NCHAN: 1.0}),
    ]
    if sockets > 1000:
        found.append(Figure("P5", f"memory per connection, {sockets} of them", "kB", values["weight"], {}))
    return found


def _bursts(values: Mapping[str, Mapping[str, list[float]]]) -> list[Figure]:
    return [
        Figure(
            "P3", "server CPU per delivery, bursts of 50, 500 clients", "µs", values["cpu"], {NCHAN: 1 / 3}
        ),
        Figure("P3", "deliveries per second, the same", "/s", values["rate"], {}, rate=True),
        Figure("P3", "lost, the same", "events", values["lost"], {}),
    ]
