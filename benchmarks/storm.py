"""All clients come at once, each logged in, authorised, and 20 events behind (P4)."""

from __future__ import annotations

import statistics
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from benchmarks import candidates
from benchmarks.candidates import Candidate
from benchmarks.run import Options, say, side_by_side
from benchmarks.table import Figure

MISSED = 20
WINDOW = 100_000  # all at once
CHANNELS, BARE = "Channels with login and history", "a bare uvicorn handshake"


def measure(candidate: Candidate, clients: int) -> dict[str, float]:
    """Connections per second until each client has what it missed; HTTP meanwhile, in milliseconds."""
    is_site = bool(candidate.cookie)
    query = ""
    if is_site:
        if candidate.name != CHANNELS:
            query = f"?since={_cursor(candidate)}"
        with candidate.publishing() as publisher:
            publisher.do(f"burst {MISSED}")
    with candidate.crowd(query) as crowd, _asking(candidate if is_site else None) as answers:
        come = crowd.connect(clients, window=WINDOW, marks=MISSED if is_site else 0)
    found = {"rate": come.connected / come.seconds}
    if answers:
        found["http"] = (
            statistics.quantiles(answers, n=100, method="inclusive")[98] if len(answers) > 1 else answers[0]
        )
    return found


def _cursor(candidate: Candidate) -> str:
    answer = httpx.get(
        f"http://127.0.0.1:{candidate.server.port}/orgs/acme/notifications/",
        headers={"Cookie": candidate.cookie},
    )
    cursor: str = answer.json()["cursor"]
    return cursor


@contextmanager
def _asking(candidate: Candidate | None) -> Iterator[list[float]]:
    """How long a page takes meanwhile, again and again, in milliseconds."""
    answers: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        while candidate is not None and not is_over.wait(0.05):
            begun = time.perf_counter()
            urllib.request.urlopen(
                f"http://127.0.0.1:{candidate.server.port}/accounts/login/", timeout=60
            ).close()
            answers.append((time.perf_counter() - begun) * 1e3)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        is_over.set()
        thread.join()


def figures(options: Options) -> list[Figure]:
    """P4 with 1,000 and 5,000 clients."""
    found: list[Figure] = []
    opens = [
        candidates.orgrealtime,
        candidates.orgrealtime_frames,
        candidates.channels_with_login,
        candidates.bare,
    ]
    for clients in [1000, 5000][: options.size(2, 1)]:
        say(f"reconnect storm of {clients}")
        values = side_by_side(opens, options, lambda one, n=clients: measure(one, n))  # type: ignore[misc]
        goals = {CHANNELS: 6.0, BARE: 0.6}
        found.append(
            Figure("P4", f"connections per second, {clients} at once", "/s", values["rate"], goals, rate=True)
        )
        found.append(Figure("P4", "HTTP meanwhile, p99", "ms", values["http"], {}))
    return found
