"""The door: a crowd comes in first and is let in then; whoever comes otherwise never waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from orgrealtime.door import (
    CROWD_PER_SECOND,
    LONGEST_SECONDS,
    REST,
    STRAGGLERS_PER_SECOND,
    WINDOW_SECONDS,
    Door,
)
from tests.virtual import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.end()


class Coming:
    """Newcomers at a steady rate, each with the moment in which it came and the one in which it was let in."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.door: Door | None = None
        self.came: list[float] = []
        self.entered: list[float] = []

    async def _enter(self, place: int) -> None:
        assert self.door is not None
        await self.door.enter()
        self.entered[place] = self.loop.time()

    async def _come(self, per_second: float, seconds: float) -> list[asyncio.Task[None]]:
        self.door = self.door or Door()
        tasks = []
        for _ in range(round(per_second * seconds)):
            self.came.append(self.loop.time())
            self.entered.append(-1.0)
            tasks.append(asyncio.create_task(self._enter(len(self.came) - 1)))
            await asyncio.sleep(1 / per_second)
        return tasks

    def __call__(self, per_second: float, seconds: float) -> list[float]:
        """Return how long each of these has waited."""
        first = len(self.came)

        async def come() -> None:
            await asyncio.gather(*await self._come(per_second, seconds))

        self.loop.run_until_complete(come())
        return [entered - came for came, entered in zip(self.came[first:], self.entered[first:], strict=True)]


@pytest.fixture
def coming(loop: VirtualLoop) -> Coming:
    return Coming(loop)


@pytest.mark.parametrize("per_second", [1, STRAGGLERS_PER_SECOND * 2, CROWD_PER_SECOND * 0.9])
def test_who_comes_at_a_rate_that_can_be_let_in_never_waits(coming: Coming, per_second: float) -> None:
    assert max(coming(per_second, 3)) == 0


def test_crowd_is_let_in_when_it_has_come(coming: Coming) -> None:
    waited = coming(CROWD_PER_SECOND * 4, 0.3)
    assert [each for each in waited[:40] if each] == []  # the first are let in: nobody knows yet
    assert 0.2 < max(waited) < 0.3 + 2 * WINDOW_SECONDS
    assert len({round(entered, 6) for entered in coming.entered[100:]}) == 1
    assert max(coming(STRAGGLERS_PER_SECOND, 1)) == 0


def test_flood_keeps_nobody_out_for_long(coming: Coming) -> None:
    waited = coming(CROWD_PER_SECOND * 2, 6)
    assert max(waited) <= LONGEST_SECONDS + 2 * WINDOW_SECONDS
    share = sum(each == 0 for each in waited) / len(waited)
    assert share > REST / (REST + 1) - 0.1


def test_who_goes_away_meanwhile_harms_nobody(loop: VirtualLoop) -> None:
    async def come() -> None:
        door = Door()
        crowd = [asyncio.create_task(door.enter()) for _ in range(100)]
        await asyncio.sleep(WINDOW_SECONDS * 1.5)
        late = [asyncio.create_task(door.enter()) for _ in range(100)]
        await asyncio.sleep(0)
        late[0].cancel()
        await asyncio.gather(*crowd, *late[1:])
        assert late[0].cancelled()

    loop.run_until_complete(come())
    assert loop.errors == []


def test_nothing_runs_when_nobody_comes(loop: VirtualLoop, coming: Coming) -> None:
    coming(CROWD_PER_SECOND * 2, 0.1)
    loop.pass_time(1)
    with pytest.raises(RuntimeError, match="nothing is left"):
        loop.run_until_complete(asyncio.Event().wait())
