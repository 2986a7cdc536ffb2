"""What needn't wait is done at once; what must is finished elsewhere, as if it had been awaited."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from orgrealtime.concurrency.eager import run_eagerly


async def test_awaitable_that_never_waits_is_done_at_once() -> None:
    done = []

    async def work() -> None:
        done.append(1)

    assert run_eagerly(work()) is None
    assert done == [1]


async def test_awaitable_that_waits_goes_on_where_it_stopped() -> None:
    gate, done = asyncio.Event(), []

    async def work() -> None:
        done.append("before")
        await gate.wait()
        await asyncio.sleep(0)
        done.append("after")

    rest = run_eagerly(work())
    assert rest is not None
    assert done == ["before"]
    gate.set()
    await rest
    assert done == ["before", "after"]


async def test_error_before_waiting_is_raised_at_once() -> None:
    async def work() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        run_eagerly(work())


async def test_error_after_waiting_is_raised_by_the_rest() -> None:
    async def work() -> None:
        await asyncio.sleep(0)
        raise LookupError

    rest = run_eagerly(work())
    assert rest is not None
    with pytest.raises(LookupError):
        await rest


async def test_failure_of_what_is_waited_for_reaches_the_awaitable() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    caught = []

    async def work() -> None:
        try:
            await future
        except LookupError as error:
            caught.append(error)

    rest = run_eagerly(work())
    assert rest is not None
    error = LookupError()
    future.set_exception(error)
    await rest
    assert caught == [error]


async def test_cancelling_the_task_that_finishes_it_cancels_the_awaitable() -> None:
    cleaned = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(1)

    rest = run_eagerly(work())
    assert rest is not None
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [1]


async def test_awaitable_that_catches_cancellation_may_wait_again() -> None:
    gate, done = asyncio.Event(), []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await gate.wait()
            done.append(1)

    rest = run_eagerly(work())
    assert rest is not None
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()
    await task
    assert done == [1]


async def test_deadline_ends_what_waits_too_long() -> None:
    rest = run_eagerly(asyncio.Event().wait())
    assert rest is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await rest


async def test_future_may_be_stepped_as_well() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    rest = run_eagerly(future)
    assert rest is not None
    future.set_result(None)
    await rest


class Foreign:
    """Waits as what other languages make does: an iterator that nothing can be thrown into."""

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future
        self._waits = False

    def __await__(self) -> Foreign:
        return self

    def __iter__(self) -> Foreign:
        return self

    def __next__(self) -> asyncio.Future[None]:
        if self._waits:
            raise StopIteration
        self._waits = self._future._asyncio_future_blocking = True  # type: ignore[attr-defined]
        return self._future


async def test_foreign_awaitable_can_be_given_up() -> None:
    rest = run_eagerly(Foreign(asyncio.get_running_loop().create_future()))
    assert rest is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await rest


async def test_foreign_awaitable_that_was_given_up_is_let_go() -> None:
    foreign = Foreign(asyncio.get_running_loop().create_future())
    given_up = weakref.ref(foreign)
    rest = run_eagerly(foreign)
    assert rest is not None
    task = asyncio.ensure_future(rest)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as error:
        await task
    del foreign, rest
    gc.collect()
    assert error.tb is not None  # which keeps the frames that it went through
    assert given_up() is None
