from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.faults.load import Result
from tests.faults.rig import Rig

RESULTS = pytest.StashKey[list[Result]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []


def faults_seed() -> int:
    return int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    rate = float(os.environ.get("FAULTS_RATE") or 100)
    async with Rig(seed=faults_seed(), rate=rate) as rig:
        rig.results = request.config.stash[RESULTS]
        request.config.stash[SEED] = rig.seed
        yield rig


SEED = pytest.StashKey[int]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    results = config.stash.get(RESULTS, [])
    if not results:
        return
    terminalreporter.section(f"faults, FAULTS_SEED={config.stash[SEED]}")
    for result in results:
        wrong = " ".join(f"{name}={count}" for name, count in result.verdict.items()) or "no verdict"
        terminalreporter.write_line(
            f"{result.fault} | {result.injected} | {result.bound} | {', '.join(result.measured)} | {wrong}"
        )
