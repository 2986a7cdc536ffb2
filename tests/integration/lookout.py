"""Whether a server is alive: the same processes, and a socket of somebody else still gets what is published."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.clients import Socket, log_in
from tests.servers import Site
from tests.shell import Shell
from tests.stopwatch import Stopwatch
from tests.waiting import eventually

SAMPLES = 5


def processes(site: Site) -> set[int]:
    """The process ids of a server and of all that it has started."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = status.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        parents[int(status.parent.name)] = int(after_name[1])
    found = {site.pid}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def resident_mib(site: Site) -> float:
    """Memory that the server's processes hold, in MiB."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in processes(site))
    return pages * 4096 / 2**20


def descriptors(site: Site) -> int:
    """How many files and sockets the server's processes have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in processes(site))


def worker_pids(site: Site) -> list[int]:
    """The processes that serve: uvicorn's are spawned, granian's forked, and uvicorn with one worker is it itself."""
    children = map(int, Path(f"/proc/{site.pid}/task/{site.pid}/children").read_text().split())
    commands = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
    return [pid for pid, command in commands.items() if b"resource_tracker" not in command] or [site.pid]


async def tasks(site: Site) -> int:
    """How many asyncio tasks the worker has, of a site with the settings of `tests.faults`."""
    worker = worker_pids(site)[0]
    report = Path(site.environ["FAULTS_FOLDER"]) / f"tasks-{worker}"
    report.unlink(missing_ok=True)
    os.kill(worker, signal.SIGUSR1)
    await eventually(lambda: report.exists() and report.read_text(), "the worker says how many tasks it has")
    return int(report.read_text())


class Lookout:
    """Bob at his socket: `await lookout.is_alive()`."""

    def __init__(self, site: Site, publisher: Shell, socket: Socket) -> None:
        self._site = site
        self._publisher = publisher
        self._socket = socket
        self._processes = processes(site)

    async def delay(self) -> float:
        """Seconds from publishing an event until bob has it."""
        count = len(self._socket.events)
        began = time.monotonic()
        await asyncio.to_thread(self._publisher.publish, {})
        await self._socket.until(lambda one: len(one.events) > count or one.close_code is not None)
        assert self._socket.close_code is None
        return time.monotonic() - began

    async def is_alive(self, seconds: float = 1.0) -> bool:
        """Whether the server is the same as at the beginning; bob must get events in time: the median of several."""
        with Stopwatch() as watch:
            delays = [await self.delay() for _ in range(SAMPLES)]
            watch.check(seconds, "bob has an event", took=statistics.median(delays))
        return processes(self._site) == self._processes


@asynccontextmanager
async def lookout(site: Site) -> AsyncIterator[Lookout]:
    async with log_in(site, "bob") as bob, bob.socket() as socket:
        await socket.synced()
        yield Lookout(site, site.shell, socket)
