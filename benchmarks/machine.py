"""The machine that is measured on: its cores, and what processes cost it."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, CLIENT_CORE = CORES[0], CORES[-1]
TICKS = os.sysconf("SC_CLK_TCK")


def describe() -> str:
    """One line about the setting, for under the table."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return f"{cpu}, {len(CORES)} cores, Linux {platform.release()}, Python {platform.python_version()}"


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for each in found:
        with contextlib.suppress(OSError):  # it has just ended
            for task in Path(f"/proc/{each}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def pin(pid: int, core: int) -> None:
    """Let all threads of a process and of its children run on one core only."""
    for each in family(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            with contextlib.suppress(OSError):
                os.sched_setaffinity(int(task.name), {core})


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and its children so far, user and system, in seconds; the clock ticks are coarse."""
    ticks = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def resident_bytes(pid: int) -> int:
    """Memory that a process and its children hold."""
    pages = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
