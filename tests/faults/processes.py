"""The site's processes and what can happen to them, and to the processes of any server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests import servers
from tests.waiting import LIMIT_SECONDS, until


class Processes:
    """The site's workers; `folder` is where they write how many tasks they have."""

    def __init__(self, site: servers.Site, folder: Path) -> None:
        self._site = site
        self._folder = folder

    def workers(self) -> list[int]:
        """Process ids of the site's workers."""
        commands = {pid: _read(f"/proc/{pid}/cmdline") for pid in _children(self._site.pid)}
        return [pid for pid, command in commands.items() if command and b"resource_tracker" not in command]

    async def replace(self, worker: int) -> float:
        """Tell one worker to end, and wait until it has and another is there; return the seconds it took to end."""
        begin = time.monotonic()
        os.kill(worker, signal.SIGTERM)
        while _read(f"/proc/{worker}/cmdline"):  # empty for one that has ended
            assert time.monotonic() - begin < LIMIT_SECONDS, "a worker doesn't end"
            await asyncio.sleep(0.05)
        seconds = time.monotonic() - begin
        while len(self.workers()) < self._site.workers:
            assert time.monotonic() - begin < LIMIT_SECONDS, "no worker takes its place"
            await asyncio.sleep(0.05)
        return seconds

    async def end(self) -> float:
        """Tell the whole site to end, and wait until it has; return the seconds it took."""
        begin, process = time.monotonic(), self._site.process
        assert process
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, LIMIT_SECONDS)
        finally:
            self._site.kill()
        return time.monotonic() - begin

    @asynccontextmanager
    async def blocked(self) -> AsyncIterator[None]:
        """Code blocks the event loop of each worker; its threads go on."""
        file = self._folder / "blocked"
        file.touch()
        _signal(self.workers(), signal.SIGUSR2)
        try:
            yield
        finally:
            file.unlink()

    def resident(self) -> int:
        """Bytes of memory that the workers hold."""
        pages = sum(int(_read(f"/proc/{pid}/statm").split()[1]) for pid in self.workers())
        return pages * os.sysconf("SC_PAGE_SIZE")

    @asynccontextmanager
    async def most_memory(self) -> AsyncIterator[list[int]]:
        """Gives, at the end, the bytes that the workers held at most."""
        sizes: list[int] = []

        async def look() -> None:
            while True:
                sizes[:] = [max([*sizes, self.resident()])]
                await asyncio.sleep(0.1)

        looking = asyncio.create_task(look())
        try:
            yield sizes
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    def most_descriptors(self) -> int:
        """How many files and sockets that worker has open that has most."""
        return max((len(os.listdir(f"/proc/{pid}/fd")) for pid in self.workers()), default=0)  # noqa: PTH208

    def most_threads(self) -> int:
        return max((len(os.listdir(f"/proc/{pid}/task")) for pid in self.workers()), default=0)  # noqa: PTH208

    def most_tasks(self) -> int:
        return max((self._tasks(pid) for pid in self.workers()), default=0)

    def _tasks(self, pid: int) -> int:
        report = self._folder / f"tasks-{pid}"
        report.unlink(missing_ok=True)
        until(lambda: _catches(pid, signal.SIGUSR1), "a worker that has just begun can be asked")
        os.kill(pid, signal.SIGUSR1)
        return int(
            until(lambda: report.exists() and report.read_text(), "a worker says how many tasks it has")
        )


@asynccontextmanager
async def frozen(*servers_or_pids: servers.Server | int) -> AsyncIterator[None]:
    """The processes, of a server all that it has, stop where they are; their connections stay."""
    pids = []
    for each in servers_or_pids:
        pids += [each] if isinstance(each, int) else [each.pid, *_children(each.pid)]
    _signal(pids, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pids, signal.SIGCONT)


@asynccontextmanager
async def dead(server: servers.Server, how: signal.Signals = signal.SIGKILL) -> AsyncIterator[None]:
    """The server is killed, and started again afterwards."""
    if how is signal.SIGKILL:
        server.kill()  # with all its processes
    else:
        os.kill(server.pid, how)
        await asyncio.to_thread(_wait_for_end, server)
    try:
        yield
    finally:
        await asyncio.to_thread(server.start)


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(path).read_bytes()
    return b""


def _catches(pid: int, which: signal.Signals) -> bool:
    """Whether a process handles a signal, which would end it otherwise; Linux: `/proc/<pid>/status`."""
    lines = _read(f"/proc/{pid}/status").decode().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")]
    return any(mask >> (which - 1) & 1 for mask in masks)


def _signal(pids: list[int], which: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)


def _wait_for_end(server: servers.Server) -> None:
    assert server.process
    server.process.wait(LIMIT_SECONDS)
