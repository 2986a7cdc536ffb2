"""A bounded number at once, the others in the order in which they came."""

from __future__ import annotations

import asyncio

import pytest

from orgrealtime.concurrency.limiter import Limiter

LONG = 30.0


async def waiting(turnstile: Limiter, places: int = 1) -> asyncio.Task[bool]:
    task = asyncio.create_task(turnstile.enter(places, LONG))
    await asyncio.sleep(0)
    assert not task.done()
    return task


async def test_as_many_as_there_are_places_get_in_at_once() -> None:
    turnstile = Limiter()
    assert [await turnstile.enter(2, 0.01) for _ in range(3)] == [True, True, False]


async def test_who_waits_gets_in_by_turns() -> None:
    turnstile = Limiter()
    await turnstile.enter(1, LONG)
    first, second = await waiting(turnstile), await waiting(turnstile)
    turnstile.leave(1)
    assert await first
    assert not second.done()
    turnstile.leave(1)
    assert await second
    assert turnstile.inside == 1


async def test_who_gave_up_takes_no_place() -> None:
    turnstile = Limiter()
    await turnstile.enter(1, LONG)
    assert not await turnstile.enter(1, 0.01)
    turnstile.leave(1)
    assert turnstile.inside == 0
    assert await turnstile.enter(1, 0.01)


@pytest.mark.parametrize("is_let_in", [False, True])
async def test_who_is_cancelled_takes_no_place(is_let_in: bool) -> None:
    turnstile = Limiter()
    await turnstile.enter(1, LONG)
    first, second = await waiting(turnstile), await waiting(turnstile)
    if is_let_in:
        turnstile.leave(1)
        first.cancel()
    else:
        first.cancel()
        await asyncio.wait([first])
        turnstile.leave(1)
    assert await second
    assert first.cancelled()
    assert turnstile.inside == 1
