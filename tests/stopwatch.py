"""Seconds that the library promises, measured on a machine that others use as well.

A `Stopwatch` tells how much longer things take than on a machine that does nothing else: by how long the processes of
the tests have waited for a processor (Linux: `/proc/<pid>/task/*/schedstat`), and by how long this process was stopped.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

TICK_SECONDS = 0.05
STALL_SECONDS = 0.05  # a thread that wakes up later than this was kept from it
SAMPLE_TICKS = 10


class Processor(NamedTuple):
    """Nanoseconds that a thread has had a processor, and that it has waited for one while it had work."""

    had: int = 0
    waited: int = 0


def family(process_id: int) -> list[int]:
    """A process and all that it has started, and they."""
    found = [process_id]
    for pid in found:
        for task in _tasks(pid):
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def processors(process_id: int) -> Iterator[tuple[str, Processor]]:
    """The threads of a process and of all that it has started."""
    for pid in family(process_id):
        for task in _tasks(pid):
            with contextlib.suppress(OSError):
                had, waited, _ = (task / "schedstat").read_text().split()
                yield task.name, Processor(int(had), int(waited))


def _tasks(process_id: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{process_id}/task").iterdir())
    except OSError:  # it has ended, or this system has no such files
        return []


class Stopwatch:
    """`with Stopwatch() as watch: …; watch.check(2.0, "the socket is closed")`."""

    def __enter__(self) -> Self:
        self.begin = time.monotonic()
        self._stalled = 0.0
        self._first = dict(processors(os.getpid()))
        self._last = dict(self._first)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begin

    @property
    def slowdown(self) -> float:
        """How many times longer the processes of the tests have taken than they would without others."""
        last = self._last = self._last | dict(processors(os.getpid()))
        had = sum(each.had - self._first.get(tid, Processor()).had for tid, each in last.items())
        waited = sum(each.waited - self._first.get(tid, Processor()).waited for tid, each in last.items())
        return 1 + waited / had if had else 1.0

    def allowed(self, bound: float) -> float:
        """The seconds that something may take here of which is promised that it takes no longer than `bound`."""
        return bound * self.slowdown + self._stalled

    def check(self, bound: float, what: str, *, took: float | None = None) -> float:
        """Raise AssertionError if it took longer than is promised; return the seconds that it took."""
        seconds = self.seconds if took is None else took
        if seconds > bound:  # else it needn't be known how slow the machine is
            assert seconds <= self.allowed(bound), f"{what}: after {seconds:.2f} s. {self.describe(bound)}"
        return seconds

    def describe(self, bound: float) -> str:
        return (
            f"Promised are {bound:g} s, allowed {self.allowed(bound):.2f} s: what the tests do takes "
            f"{self.slowdown:.1f} times as long here, and they were stopped for {self._stalled:.1f} s"
        )

    def _look(self) -> None:
        ticks, before = 0, time.monotonic()
        while not self._is_over.wait(TICK_SECONDS):
            now = time.monotonic()
            late = now - before - TICK_SECONDS
            if late > STALL_SECONDS:
                self._stalled += late
            ticks += 1
            if ticks % SAMPLE_TICKS == 0:
                self._last = self._last | dict(processors(os.getpid()))
            before = time.monotonic()
