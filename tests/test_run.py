"""How a run of the tests ends when a test fails or when it is interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.stopwatch import Stopwatch
from tests.waiting import LIMIT_SECONDS, until

ROOT = Path(__file__).parent.parent
AT_ONCE_SECONDS = 10.0
IGNORES_INTERRUPTS = [
    "/bin/sh",
    "-c",
    'trap "" INT; exec "$@"',
    "sh",
]  # as a shell starts it in the background

THAT_FAIL = """
import pytest
from tests.waiting import eventually

async def test_condition_that_never_holds():
    frames = ["welcome", "synced"]
    await eventually(lambda: len(frames) == 3, seconds=0.01)

def test_long_reason():
    assert False, "because " + "of this " * 40 + "and that"

@pytest.fixture
def broken():
    raise ValueError("no such server")

def test_error(broken):
    pass
"""
THAT_WAIT = """
import asyncio
from pathlib import Path
import pytest
from tests.servers import Redis

@pytest.fixture(scope="module")
def server():
    with Redis() as server:
        yield server

async def test_failed_before():
    assert "this" == "that"

async def test_waits(server):
    Path("{folder}/pid").write_text(str(server.pid))
    await asyncio.sleep(3600)

async def test_waits_too(server):
    await asyncio.sleep(3600)
"""


def environ() -> dict[str, str]:
    """What a person's shell has: nothing of this run."""
    ours = ("PYTEST_", "CI", "COLUMNS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def command(file: Path, *options: str) -> list[str]:
    plugins = ["-p", "no:cacheprovider", "-p", "tests.running", "--dist", "loadfile"]
    config = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    return [sys.executable, "-m", "pytest", *config, *plugins, *options, str(file)]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        os.kill(pid, 0)
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.slow
def test_failed_tests_are_named_at_the_end_with_their_whole_reasons(tmp_path: Path) -> None:
    file = tmp_path / "test_that_fail.py"
    file.write_text(THAT_FAIL)
    run = subprocess.run(command(file), cwd=ROOT, env=environ(), capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stdout
    *_, condition, long_reason, error, _ = run.stdout.splitlines()
    assert condition.startswith("FAILED ")
    assert condition.endswith("not within 0 s: len(frames) == 3; seen: frames=['welcome', 'synced']"), (
        condition
    )
    assert long_reason.startswith("FAILED ")
    assert "and that" in long_reason
    assert error.startswith("ERROR ")
    assert error.endswith("ValueError: no such server")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [["-n", "0"], pytest.param(["-n", "2"], marks=pytest.mark.slow)],
    ids=["one process", "two processes"],
)
def test_interrupted_run_ends_at_once_with_its_report_and_leaves_no_server(
    tmp_path: Path, options: list[str]
) -> None:
    file = tmp_path / "test_that_wait.py"
    file.write_text(THAT_WAIT.format(folder=tmp_path))
    pid_file, log = tmp_path / "pid", tmp_path / "log"
    with log.open("w") as output:
        run = subprocess.Popen(
            [*IGNORES_INTERRUPTS, *command(file, *options)],
            cwd=ROOT,
            env=environ(),
            stdout=output,
            stderr=output,
        )
    server = int(
        until(lambda: pid_file.exists() and pid_file.read_text(), "the test waits", seen=log.read_text)
    )
    with Stopwatch() as watch:
        run.send_signal(signal.SIGINT)
        run.send_signal(signal.SIGINT)  # tox sends one more than the terminal
        run.wait(LIMIT_SECONDS)
        watch.check(AT_ONCE_SECONDS, "the run has ended")
    until(lambda: not is_running(server), "the server has ended")
    printed = log.read_text()
    assert run.returncode == pytest.ExitCode.INTERRUPTED, printed
    assert "test_failed_before - AssertionError: assert 'this' == 'that'" in printed
