"""One organisation, many sockets: what a delivery costs the server, beside plain Channels."""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.clients import log_in
from tests.servers import EXAMPLE, Server, Site, redis_url

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_OPTIONS = ["--ws", "websockets-sansio", "--ws-per-message-deflate", "false", "--no-access-log"]


class Figures(NamedTuple):
    """Medians of the rounds: CPU seconds of the server per delivery, seconds to the last delivery."""

    cpu: float
    last: float


class Candidate(NamedTuple):
    """A server with one process, where to connect to it, and the command that publishes when told a number."""

    name: str
    server: Server
    url: str
    cookie: str
    publisher: list[str]
    environ: Mapping[str, str]
    cwd: Path


class PlainChannels(Server):
    """The tutorial's consumer under the same server with the same options."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "uvicorn", "benchmarks.peers.plain_channels:application"]
        return [*command, "--port", str(self.port), *SERVER_OPTIONS]

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class QuietSite(Site):
    """The example with one worker and nothing that plain Channels doesn't do besides."""

    def _command(self) -> list[str]:
        return [*super()._command(), *SERVER_OPTIONS]


@contextmanager
def orgrealtime() -> Iterator[Candidate]:
    environ = {"LIMITS": "off", "LOG_LEVEL": "WARNING", "DEBUG": "off", "PYTHONPATH": f"{ROOT}:{EXAMPLE}"}
    with QuietSite(environ=environ) as site:
        url = f"{site.url}/ws/orgs/acme/notifications/"
        command = [sys.executable, "-m", "benchmarks.publisher"]
        yield Candidate("orgrealtime", site, url, asyncio.run(_cookie(site)), command, site.environ, EXAMPLE)


@contextmanager
def plain_channels() -> Iterator[Candidate]:
    environ = {**os.environ, "REDIS_URL": redis_url()}
    server = PlainChannels()
    server.popen_options = {"cwd": ROOT, "env": environ}
    command = [sys.executable, "-m", "benchmarks.peers.plain_channels"]
    with server:
        yield Candidate("plain Channels", server, f"{server.url}/ws/plain/", "", command, environ, ROOT)


async def _cookie(site: Site) -> str:
    async with log_in(site.url, "alice") as alice:
        return alice.cookie


def measure(candidate: Candidate, *, sockets: int, rounds: int, depth: int) -> Figures:
    """Publish `depth` events at once, `rounds` times, each when the last has reached all sockets."""
    pin(candidate.server.pid, CORES[0])
    with _process(
        [sys.executable, "-m", "benchmarks.crowd", candidate.url, str(sockets), candidate.cookie]
    ) as crowd:
        pin(crowd.pid, CORES[-1])
        assert _line(crowd) == "ready"
        with _process(candidate.publisher, cwd=candidate.cwd, env=candidate.environ) as publisher:
            pin(publisher.pid, CORES[-1])
            _round(crowd, publisher, depth)  # warms everything up
            cpu, last = [], []
            for _ in range(rounds):
                before = cpu_seconds(candidate.server.pid)
                last.append(_round(crowd, publisher, depth))
                cpu.append((cpu_seconds(candidate.server.pid) - before) / (sockets * depth))
    # The clock ticks of CPU time are coarse, so the mean; times have outliers, so the median.
    return Figures(statistics.fmean(cpu), statistics.median(last))


def _round(crowd: subprocess.Popen[str], publisher: subprocess.Popen[str], depth: int) -> float:
    for process in (crowd, publisher):
        assert process.stdin is not None
        process.stdin.write(f"{depth}\n")
        process.stdin.flush()
    return float(_line(crowd))


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far, in seconds."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    ticks = 0
    for each in pids:
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pin(pid: int, core: int) -> None:
    """Let all threads of a process run on one core only."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


@contextmanager
def _process(
    command: list[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=cwd, env=env
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()
