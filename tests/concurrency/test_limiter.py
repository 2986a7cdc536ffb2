"""A bounded number at once, the others in the order in which they came."""

from __future__ import annotations

import asyncio

import pytest

from orgrealtime.concurrency.limiter import Limiter

LONG = 30.0


async def waiting(limiter: Limiter, most: int = 1) -> asyncio.Task[bool]:
    task = asyncio.create_task(limiter.acquire(most, LONG))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_as_many_as_there_are_places_get_in_at_once() -> None:
    limiter = Limiter()
    assert [await limiter.acquire(2, 0.01) for _ in range(3)] == [True, True, False]


async def test_who_waits_gets_in_by_turns() -> None:
    limiter = Limiter()
    await limiter.acquire(1, LONG)
    first, second = await waiting(limiter), await waiting(limiter)
    limiter.release(1)
    assert await first
    assert not second.done()
    limiter.release(1)
    assert await second
    assert limiter._acquired == 1


async def test_who_gave_up_takes_no_place() -> None:
    limiter = Limiter()
    await limiter.acquire(1, LONG)
    assert not await limiter.acquire(1, 0.01)
    limiter.release(1)
    assert limiter._acquired == 0
    assert await limiter.acquire(1, 0.01)


@pytest.mark.parametrize("is_let_in", [False, True])
async def test_who_is_cancelled_takes_no_place(is_let_in: bool) -> None:
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
    assert limiter._acquired == 1
