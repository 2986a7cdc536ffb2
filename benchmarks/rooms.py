"""Ten people in a room of two server processes: from sending to the last who has it, and messages per second (P14).

Ours keeps each message in PostgreSQL before anybody sees it, and counts it against limits that are out of reach, which
costs more than with those that a room has by default; the peers keep nothing, and ask nobody who they are. The two
processes share the servers' core, as the clients share theirs.
"""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks import candidates
from benchmarks.candidates import ROOT, Candidate
from benchmarks.run import Options, say, side_by_side
from benchmarks.table import Figure

PEOPLE = 10
RATE = 20


def measure(candidate: Candidate, seconds: int) -> dict[str, float]:
    """What `benchmarks.talk` says, in a process of its own."""
    address = f"127.0.0.1:{candidate.server.port}"
    told = {
        "url": f"ws://{address}{candidate.path}",
        "origin": f"http://{address}",
        "cookies": candidates.people(candidate, PEOPLE),
        "greeting": candidate.greeting,
        "message": candidate.message,
        "rate": RATE,
        "seconds": seconds,
    }
    command = [sys.executable, "-m", "benchmarks.talk"]
    done = subprocess.run(
        command, input=json.dumps(told), check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def figures(options: Options) -> list[Figure]:
    """P14."""
    seconds = options.size(20, 3)
    opens = [
        candidates.orgrealtime_room,
        candidates.channels_tutorial,
        candidates.channels_tutorial_pubsub,
        candidates.socketio_room,
    ]
    say(f"{PEOPLE} people in a room, {RATE} messages/s, then as many as can be")
    values = side_by_side(opens, options, lambda one: measure(one, seconds))
    last = f"send → the last of {PEOPLE} in a room has it, {RATE}/s"
    return [
        Figure("P14", f"{last}, p50", "ms", values["p50"], {}),
        Figure("P14", f"{last}, p99", "ms", values["p99"], {}),
        Figure(
            "P14", "messages per second, each sends when its own is back", "/s", values["rate"], {}, rate=True
        ),
        Figure(
            "P14",
            "what the clients used of their core meanwhile (100: they are the bound)",
            "%",
            values["busy"],
            {},
        ),
    ]
