"""A bounded number at once: tasks in the order in which they came, threads in any."""

from __future__ import annotations

import asyncio

import pytest

from orgrealtime.concurrency.limiter import Limiter, ThreadLimiter
from tests import threads
from tests.virtual import virtual_loop, virtually
from tests.waiting import LIMIT_SECONDS

LONG = 30.0


async def waiting(limiter: Limiter, limit: int = 1) -> asyncio.Task[bool]:
    task = asyncio.create_task(limiter.acquire(limit, LONG))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def is_all_released(limiter: Limiter) -> bool:
    """Whether one may acquire, and no second, where that is the limit."""
    return await limiter.acquire(1, 0) and not await limiter.acquire(1, 0)


# Tasks


@virtually
async def test_as_many_as_may_acquire_at_once_and_the_next_gives_up_in_time() -> None:
    limiter = Limiter()
    assert [await limiter.acquire(2, LONG) for _ in range(3)] == [True, True, False]
    assert virtual_loop().time() == pytest.approx(LONG)


@virtually
async def test_without_a_limit_everybody_acquires() -> None:
    limiter = Limiter()
    assert all([await limiter.acquire(None, 0) for _ in range(50)])


@virtually
async def test_who_waits_acquires_by_turns() -> None:
    limiter = Limiter()
    await limiter.acquire(1, LONG)
    first, second = await waiting(limiter), await waiting(limiter)
    limiter.release(1)
    assert await first
    assert not second.done()
    limiter.release(1)
    assert await second
    limiter.release(1)
    assert await is_all_released(limiter)


@virtually
async def test_who_comes_does_not_overtake_those_who_wait() -> None:
    limiter = Limiter()
    await limiter.acquire(1, LONG)
    first = await waiting(limiter)
    assert not await limiter.acquire(2, 0)
    limiter.release(1)
    assert await first


@virtually
async def test_limit_that_is_raised_lets_those_acquire_who_wait() -> None:
    limiter = Limiter()
    await limiter.acquire(1, LONG)
    both = [await waiting(limiter), await waiting(limiter)]
    limiter.release(2)
    assert await asyncio.gather(*both) == [True, True]


@virtually
async def test_who_acquires_over_the_limit_counts_all_the_same() -> None:
    limiter = Limiter()
    for _ in range(2):
        limiter.acquire_over_limit()
    limiter.release(1)
    assert not await limiter.acquire(1, 0)
    limiter.release(1)
    assert await is_all_released(limiter)


@virtually
async def test_who_gave_up_has_acquired_nothing() -> None:
    limiter = Limiter()
    await limiter.acquire(1, LONG)
    assert not await limiter.acquire(1, LONG)
    limiter.release(1)
    assert await is_all_released(limiter)


@pytest.mark.parametrize("is_let_in", [False, True])
@virtually
async def test_who_is_cancelled_has_acquired_nothing(is_let_in: bool) -> None:
    limiter = Limiter()
    await limiter.acquire(1, LONG)
    first, second = await waiting(limiter), await waiting(limiter)
    if is_let_in:
        limiter.release(1)
        first.cancel()
    else:
        first.cancel()
        await asyncio.wait([first])
        limiter.release(1)
    assert await second
    assert first.cancelled()
    limiter.release(1)
    assert await is_all_released(limiter)


# Threads


def test_as_many_threads_as_may_acquire_at_once() -> None:
    limiter = ThreadLimiter()
    assert [limiter.acquire(2, 0) for _ in range(3)] == [True, True, False]
    assert limiter.acquire(None, 0)


def test_thread_that_waits_acquires_when_another_releases() -> None:
    limiter = ThreadLimiter()
    assert limiter.acquire(1, 0)
    waits = threads.start(lambda: limiter.acquire(1, LIMIT_SECONDS))
    limiter.release()
    assert waits.result()
    assert not limiter.acquire(1, 0)
    limiter.release()
    assert limiter.acquire(1, 0)


def test_thread_that_gave_up_has_acquired_nothing() -> None:
    limiter = ThreadLimiter()
    assert limiter.acquire(1, 0)
    assert not limiter.acquire(1, 0.01)
    limiter.release()
    assert [limiter.acquire(1, 0) for _ in range(2)] == [True, False]


def test_thread_that_acquires_over_the_limit_counts_all_the_same() -> None:
    limiter = ThreadLimiter()
    for _ in range(2):
        limiter.acquire_over_limit()
    limiter.release()
    assert not limiter.acquire(1, 0)
    limiter.release()
    assert limiter.acquire(1, 0)


def test_no_more_threads_are_in_at_once_than_may_and_all_get_in() -> None:
    limiter, inside, most = ThreadLimiter(), [], []

    def go_through(number: int) -> bool:
        is_in = limiter.acquire(3, LIMIT_SECONDS)
        inside.append(number)
        most.append(len(inside))
        inside.remove(number)
        limiter.release()
        return is_in

    assert threads.start_many(20, go_through) == [True] * 20
    assert max(most) <= 3
