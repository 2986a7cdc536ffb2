"""From publishing to the clients at steady rates (P7), and beside clients that don't read (P10)."""

from __future__ import annotations

from benchmarks import candidates, machine
from benchmarks.candidates import Candidate
from benchmarks.run import Options, say, side_by_side
from benchmarks.table import Figure

CLIENTS = 500
MANY = 200
CHANNELS, SOCKETIO = "Channels, pubsub layer", "Socket.IO, Redis adapter"
ALL, SLOW, SMALL_BUFFER = 2000, 200, 4096


def measure(candidate: Candidate, rate: int, seconds: int, orgs: int) -> dict[str, float]:
    """Milliseconds from publishing, inside the transaction, to arrival."""
    slugs = candidates.organizations(candidate, orgs) if orgs > 1 else []
    with candidate.crowd(orgs=orgs) as crowd, candidate.publishing(*slugs) as publisher:
        crowd.connect(CLIENTS)
        publisher.do(f"rate {rate} {max(1, orgs // rate)}")
        crowd.watch(1)
        publisher.tell(f"rate {rate} {seconds}")
        heard = crowd.expect(rate * seconds // orgs, seconds * 2 + 5)
        publisher.wait()
    return {"p50": heard.p50, "p99": heard.p99, "last": heard.last, "lost": heard.lost}


def measure_slow(candidate: Candidate, slow: int, seconds: int) -> dict[str, float]:
    """The same for those who read, of whom there are as many each time."""
    with candidate.crowd() as crowd, candidate.publishing() as publisher:
        crowd.connect(ALL - SLOW)
        if slow:
            crowd.connect(slow, buffer=SMALL_BUFFER)
            crowd.sleep(slow)
        publisher.do("rate 100 1")
        crowd.watch(1)
        before = machine.resident_bytes(candidate.pid)
        publisher.tell(f"rate 100 {seconds}")
        heard = crowd.expect(100 * seconds, seconds * 3)
        publisher.wait()
        more = machine.resident_bytes(candidate.pid) - before
    return {"p99": heard.p99, "lost": heard.lost, "memory": more / 1e6}


def figures(options: Options) -> list[Figure]:
    """P7 and P10."""
    return [*_rates(options), *_slow(options)]


def _rates(options: Options) -> list[Figure]:
    opens = [
        candidates.orgrealtime,
        candidates.orgrealtime_frames,
        candidates.plain_channels,
        candidates.socketio,
    ]
    found: list[Figure] = []
    for rate, orgs in [(1, 1), (10, 1), (100, 1), (1000, 1), (1000, MANY)]:
        where = "one organisation" if orgs == 1 else f"{orgs} organisations"
        seconds = options.size(20 if rate == 1 else 10, 4)
        say(f"{rate} events/s in {where}, {CLIENTS} clients")
        peers = opens if orgs == 1 else opens[:3]  # our peer of Socket.IO has one room
        values = side_by_side(peers, options, lambda one, r=rate, s=seconds, o=orgs: measure(one, r, s, o))  # type: ignore[misc]
        name = f"publish → client at {rate}/s in {where}"
        found += [
            Figure("P7", f"{name}, p50", "ms", values["p50"], {}),
            Figure("P7", f"{name}, p99", "ms", values["p99"], {CHANNELS: 0.5}),
        ]
    return found


def _slow(options: Options) -> list[Figure]:
    say(f"{SLOW} of {ALL} clients don't read, 100 events/s")
    opens = [candidates.orgrealtime, candidates.orgrealtime_frames, candidates.plain_channels]
    seconds = options.size(20, 4)
    alone, beside = (
        side_by_side(opens, options, lambda one, n=slow: measure_slow(one, n, seconds))  # type: ignore[misc]
        for slow in (0, SLOW)
    )
    together = {
        f"{name}{suffix}": values
        for suffix, measured in (("", beside), (", without them", alone))
        for name, values in measured["p99"].items()
    }
    return [
        Figure(
            "P10",
            f"p99 of {ALL - SLOW} clients beside {SLOW} that don't read",
            "ms",
            together,
            {
                "orgrealtime, without them": 1.2,
            },
        ),
        Figure("P10", "memory meanwhile", "MB", beside["memory"], {}),
    ]
