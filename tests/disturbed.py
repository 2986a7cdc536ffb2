"""Run the tests on a machine that is disturbed: by others that are busy, and by stops as of a virtual machine.

`python -m tests.disturbed --busy 2 python -m pytest -n auto --dist loadfile`; `--stop 2` stops what runs the tests, or
with the servers all of it, for two seconds now and then. Ends with the exit code of the command.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.stopwatch import family

BUSY = "while True: pass"
SECONDS_BETWEEN_STOPS = 15.0


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that never rest."""
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def runs_tests(pid: int) -> bool:
    """Whether this process runs tests: pytest's own, or one that it has started to share them (execnet)."""
    with contextlib.suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"pytest" in command or b"eval(sys.stdin.readline())" in command
    return False


def is_stopped(pid: int) -> bool:
    """Whether a test has stopped this process itself."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    return False


def stop_now_and_then(command: subprocess.Popen[bytes], seconds: float, chance: random.Random) -> None:
    while command.poll() is None:
        time.sleep(chance.expovariate(1 / SECONDS_BETWEEN_STOPS))
        everything = family(command.pid)
        of_tests = [pid for pid in everything if runs_tests(pid)]
        stopped = [pid for pid in chance.choice([everything, of_tests, of_tests[-1:]]) if not is_stopped(pid)]
        _signal(stopped, signal.SIGSTOP)
        time.sleep(seconds)
        _signal(stopped, signal.SIGCONT)
        sys.stderr.write(f"[stopped {len(stopped)} processes for {seconds:g} s]\n")


def _signal(pids: list[int], which: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, which)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--busy", type=int, default=0, metavar="LOOPS")
    parser.add_argument("--stop", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=4711)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with busy(options.busy), subprocess.Popen(options.command) as command:
        if options.stop:
            chance = random.Random(options.seed)
            arguments = [command, options.stop, chance]
            threading.Thread(target=stop_now_and_then, args=arguments, daemon=True).start()
        return command.wait()


if __name__ == "__main__":
    sys.exit(main())
