"""The gate: a crowd comes in first and is let in then; whoever comes otherwise never waits."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Iterator

import pytest

from orgrealtime.admission.gate import CROWD, LONGEST_SECONDS, REST, WINDOW_SECONDS, Crowd
from tests.virtual import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.end()


class Coming:
    """Handshakes at one gate; letting one in takes so many seconds, for any number at once."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.crowd: Crowd | None = None
        self.entered: list[float] = []

    def __call__(self, gaps: Iterable[float], takes: float) -> list[float]:
        """Return how long each has waited, who come with these seconds between them."""
        return self.loop.run_until_complete(self._come(gaps, takes))

    async def _come(self, gaps: Iterable[float], takes: float) -> list[float]:
        self.crowd = self.crowd or Crowd()
        coming = []
        for gap in gaps:
            await asyncio.sleep(gap)
            coming.append(asyncio.create_task(self._pass(self.crowd, takes)))
        return await asyncio.gather(*coming)

    async def _pass(self, crowd: Crowd, takes: float) -> float:
        came = self.loop.time()
        async with crowd.passing():
            self.entered.append(self.loop.time())
            await asyncio.sleep(takes)
        return self.loop.time() - takes - came


@pytest.fixture
def coming(loop: VirtualLoop) -> Coming:
    return Coming(loop)


def evenly(per_second: float, seconds: float) -> list[float]:
    return [1 / per_second] * round(per_second * seconds)


def by_chance(per_second: float, seconds: float) -> list[float]:
    chance = random.Random(1)
    return [chance.expovariate(per_second) for _ in range(round(per_second * seconds))]


@pytest.mark.slow
@pytest.mark.parametrize(("per_second", "takes"), [(1, 1.0), (200, 0.1), (600, 0.03), (1000, 0.01)])
def test_who_comes_at_a_rate_that_can_be_let_in_never_waits(
    coming: Coming, per_second: float, takes: float
) -> None:
    assert max(coming(by_chance(per_second, 20), takes)) == pytest.approx(0, abs=1e-6)


def test_those_who_come_together_after_a_stall_dont_wait(coming: Coming) -> None:
    gaps = evenly(300, 1) + [0.06] + [0.0] * 18 + evenly(300, 1)
    assert max(coming(gaps, 0.05)) == pytest.approx(0, abs=1e-6)


def test_crowd_is_let_in_when_it_has_come(coming: Coming) -> None:
    waited = coming(evenly(3000, 0.3), 1.0)
    assert max(waited[: CROWD // 2]) == pytest.approx(0, abs=1e-6)  # nobody knows yet
    assert 0.2 < max(waited) < 0.3 + 2 * WINDOW_SECONDS
    assert len({round(entered, 6) for entered in coming.entered[200:]}) == 1
    assert max(coming(evenly(200, 1), 0.05)) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_flood_keeps_nobody_out_for_long(coming: Coming) -> None:
    waited = coming(evenly(3000, 6), 2.0)
    assert max(waited) <= LONGEST_SECONDS + 2 * WINDOW_SECONDS
    share = sum(each < 1e-6 for each in waited) / len(waited)
    assert share > REST / (REST + 1) - 0.1


def test_who_goes_away_meanwhile_harms_nobody(loop: VirtualLoop) -> None:
    async def go_through(crowd: Crowd) -> None:
        async with crowd.passing():
            await asyncio.sleep(0.5)

    async def come() -> None:
        gate = Crowd()
        crowd = [asyncio.create_task(go_through(gate)) for _ in range(CROWD)]
        await asyncio.sleep(WINDOW_SECONDS * 1.5)
        late = [asyncio.create_task(go_through(gate)) for _ in range(CROWD)]
        await asyncio.sleep(0)
        late[0].cancel()
        await asyncio.gather(*crowd, *late[1:])
        assert late[0].cancelled()
        assert gate._here == 0

    loop.run_until_complete(come())
    assert loop.errors == []


def test_nothing_runs_when_nobody_comes(loop: VirtualLoop, coming: Coming) -> None:
    coming(evenly(3000, 0.1), 1.0)
    loop.pass_time(1)
    with pytest.raises(RuntimeError, match="nothing is left"):
        loop.run_until_complete(asyncio.Event().wait())
