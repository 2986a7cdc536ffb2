"""How the tests are run: over how many processes, what an interruption does, and how failures are told at the end."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from typing import Any

import pytest

from tests import servers

MOST_PROCESSES = 6
SAME_INTERRUPTION_SECONDS = 1.0

_processes: set[int] = set()  # that run tests for this one


class _Interruption:
    """Raises KeyboardInterrupt, once where the terminal, tox and pytest's own first process all send SIGINT.

    The second would cut off the report of the run.
    """

    def __init__(self) -> None:
        self._last = -math.inf

    def __call__(self, *signal_and_frame: object) -> None:
        last, self._last = self._last, time.monotonic()
        if self._last - last > SAME_INTERRUPTION_SECONDS:
            raise KeyboardInterrupt


def pytest_configure() -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:  # the servers that the tests start are not
        os.environ.pop("PYTHONDEVMODE", None)
        os.environ.pop("PYTHONWARNINGS", None)
    # A shell lets what it starts in the background ignore SIGINT.
    signal.signal(signal.SIGINT, _Interruption())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    # Processes that run tests are as strict as this one: `python -X dev -W error`.
    if sys.flags.dev_mode:
        os.environ["PYTHONDEVMODE"] = "1"
    if sys.warnoptions:
        os.environ["PYTHONWARNINGS"] = ",".join(sys.warnoptions)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodeready(node: Any) -> None:
    _processes.add(node.gateway._rinfo().pid)


def pytest_keyboard_interrupt() -> None:
    for pid in _processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """How many processes run tests: one more than processors, for tests wait; this one alone if servers are given."""
    return 0 if servers.ARE_GIVEN else min((os.cpu_count() or 1) + 1, MOST_PROCESSES)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name each failed test with its whole reason: pytest cuts it off at the width of the terminal."""
    for word, outcome in (("FAILED", "failed"), ("ERROR", "error")):
        for report in terminalreporter.getreports(outcome):
            crash = getattr(report.longrepr, "reprcrash", None)
            reason = str(crash.message if crash else report.longrepr)
            terminalreporter.write_line(
                f"{word} {report.nodeid} - {' '.join(reason.split())[:2000]}", red=True
            )
