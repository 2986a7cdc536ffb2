"""What is asked for at the same moment is asked together, each gets its own answer, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orgrealtime.concurrency import background
from orgrealtime.concurrency.batching import (
    HELD_UP_SECONDS,
    MAX_BATCH,
    MAX_BATCHES_AT_ONCE,
    Batcher,
    Conflator,
    answer_each,
)
from tests.virtual import virtual_loop, virtually

SHORT, LONG = HELD_UP_SECONDS / 2, 60.0


class AwayError(Exception):
    """Of the database, say: no query is to blame for it."""


async def concerns_all(error: Exception) -> bool:
    return isinstance(error, AwayError)


class Work:
    """Answers each query with ten times itself, after so many seconds; `batches` are those it was asked for."""

    def __init__(self, seconds: float = 0.0, *, spoilt_by: Any = None, is_away: bool = False) -> None:
        self.batches: list[list[int]] = []
        self.begun: list[float] = []
        self.seconds = seconds
        self.spoilt_by, self.is_away = spoilt_by, is_away

    async def __call__(self, queries: Sequence[int]) -> list[int | Exception]:
        self.batches.append(list(queries))
        self.begun.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.seconds)
        if self.is_away:
            raise AwayError
        if self.spoilt_by in queries:
            raise LookupError(self.spoilt_by)
        return [query * 10 for query in queries]


def ask(batcher: Batcher[int, int], *queries: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(batcher.ask(query)) for query in queries]


async def gathered(tasks: Sequence[asyncio.Task[int]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


# Each gets its answer


async def test_answers_come_in_the_order_of_the_queries() -> None:
    assert await answer_each(Work(), [3, 1, 2], concerns_all) == [30, 10, 20]


async def test_one_that_spoils_the_batch_is_asked_alone_like_the_others() -> None:
    work = Work(spoilt_by=2)
    one, two, three = await answer_each(work, [1, 2, 3], concerns_all)
    assert (one, type(two), three) == (10, LookupError, 30)
    assert work.batches == [[1, 2, 3], [1], [2], [3]]


async def test_single_query_that_fails_is_not_asked_again() -> None:
    work = Work(spoilt_by=2)
    (answer,) = await answer_each(work, [2], concerns_all)
    assert isinstance(answer, LookupError)
    assert work.batches == [[2]]


async def test_error_that_concerns_all_is_raised_and_nothing_is_asked_again() -> None:
    work = Work(is_away=True)
    with pytest.raises(AwayError):
        await answer_each(work, [1, 2, 3], concerns_all)
    assert work.batches == [[1, 2, 3]]


# Batches


@virtually
async def test_query_that_comes_alone_does_not_wait() -> None:
    work = Work()
    batcher = Batcher(work, concerns_all, gather_seconds=LONG)
    assert await batcher.ask(1) == 10
    assert work.begun == [0.0]


@virtually
async def test_those_who_come_meanwhile_are_asked_about_together_in_their_order() -> None:
    work = Work(SHORT)
    batcher = Batcher(work, concerns_all)
    first = ask(batcher, 1)
    await asyncio.sleep(SHORT / 2)
    assert await gathered(first + ask(batcher, 5, 3, 4)) == [10, 50, 30, 40]
    assert work.batches == [[1], [5, 3, 4]]


@virtually
async def test_batch_holds_at_most_so_many() -> None:
    work = Work(SHORT)
    batcher = Batcher(work, concerns_all)
    everybody = ask(batcher, *range(2 * MAX_BATCH))
    assert await gathered(everybody) == [query * 10 for query in range(2 * MAX_BATCH)]
    assert max(map(len, work.batches)) == MAX_BATCH
    assert sorted(query for batch in work.batches for query in batch) == list(range(2 * MAX_BATCH))


@virtually
async def test_batch_that_is_held_up_holds_up_only_those_in_it_and_no_more_begin_than_may() -> None:
    work = Work(LONG)
    batcher = Batcher(work, concerns_all)
    askers = ask(batcher, 1)
    await asyncio.sleep(SHORT)
    for query in range(2, 2 + MAX_BATCHES_AT_ONCE):
        askers += ask(batcher, query)
        await asyncio.sleep(2 * HELD_UP_SECONDS)
    assert await gathered(askers) == [query * 10 for query in range(1, 2 + MAX_BATCHES_AT_ONCE)]
    assert work.begun[:2] == [0.0, pytest.approx(SHORT + HELD_UP_SECONDS)]
    assert work.begun[2] >= LONG


@virtually
async def test_query_that_comes_as_the_last_batch_ends_is_answered() -> None:
    """In the very turn of the loop in which both batches end."""
    work = Work(LONG)
    batcher = Batcher(work, concerns_all)

    async def ask_twice() -> int:
        await batcher.ask(1)
        return await batcher.ask(2)

    first = asyncio.create_task(ask_twice())
    await asyncio.sleep(SHORT)
    work.seconds = LONG - SHORT - HELD_UP_SECONDS  # so that the second ends when the first does
    (beside,) = ask(batcher, 3)
    assert await asyncio.gather(first, beside) == [20, 30]
    assert work.batches == [[1], [3], [2]]


@virtually
async def test_those_of_a_batch_that_is_held_up_wait_alone() -> None:
    work = Work(LONG)
    batcher = Batcher(work, concerns_all)
    (held_up,) = ask(batcher, 0)
    await asyncio.sleep(SHORT)
    work.seconds = SHORT
    assert await gathered(ask(batcher, 1, 2, 3, 4, 5)) == [10, 20, 30, 40, 50]
    assert await batcher.ask(6) == 60
    assert not held_up.done()
    assert await held_up == 0
    assert work.batches == [[0], [1, 2, 3, 4, 5], [6]]


@virtually
async def test_crowd_that_trickles_in_is_asked_about_in_few_batches() -> None:
    work = Work(SHORT)
    batcher = Batcher(work, concerns_all, gather_seconds=SHORT)
    crowd = []
    for query in range(11):
        crowd += ask(batcher, query)
        await asyncio.sleep(SHORT / 10)
    await gathered(crowd)
    assert list(map(len, work.batches)) == [1, 10]


@virtually
async def test_batch_that_is_not_full_gathers_more_while_others_come() -> None:
    work = Work(SHORT)
    batcher = Batcher(work, concerns_all, gather_seconds=SHORT)
    askers = ask(batcher, 1)
    for query in (2, 3):
        await asyncio.sleep(SHORT * 0.9)
        askers += ask(batcher, query)
    await gathered(askers)
    assert work.batches == [[1], [2, 3]]


# Errors


@virtually
async def test_error_of_one_is_told_to_that_one_only() -> None:
    work = Work(SHORT, spoilt_by=3)
    batcher = Batcher(work, concerns_all)
    first = ask(batcher, 1)
    await asyncio.sleep(0)
    answers = await gathered(first + ask(batcher, 2, 3, 4))
    assert [type(answer) for answer in answers] == [int, int, LookupError, int]


@virtually
async def test_error_that_concerns_all_is_told_to_all_of_the_batch_and_the_next_is_asked() -> None:
    work = Work(SHORT, is_away=True)
    batcher = Batcher(work, concerns_all)
    first = ask(batcher, 1)
    await asyncio.sleep(0)
    answers = await gathered(first + ask(batcher, 2, 3))
    assert [type(answer) for answer in answers] == [AwayError] * 3
    assert work.batches == [[1], [2, 3]]
    work.is_away = False
    assert await batcher.ask(4) == 40


@virtually
async def test_too_few_answers_leave_nobody_waiting() -> None:
    async def answers_one(queries: Sequence[int]) -> list[int]:
        await asyncio.sleep(SHORT)
        return [10]

    batcher = Batcher(answers_one, concerns_all)
    first = ask(batcher, 1)
    await asyncio.sleep(0)
    answers = await gathered(first + ask(batcher, 2, 3))
    assert [type(answer) for answer in answers] == [int, int, ValueError]


# Who goes away


@virtually
async def test_asker_who_has_gone_is_not_asked_about_and_one_who_goes_meanwhile_harms_nobody() -> None:
    work = Work(SHORT)
    batcher = Batcher(work, concerns_all)
    first = ask(batcher, 1)
    await asyncio.sleep(0)
    gone, meanwhile, stays = ask(batcher, 2, 3, 4)
    await asyncio.sleep(0)
    gone.cancel()
    await gathered(first)
    await asyncio.sleep(0)
    assert work.batches == [[1], [3, 4]]
    meanwhile.cancel()
    assert await stays == 40


@virtually
async def test_close_cancels_those_who_are_asked_about_who_wait_and_who_come() -> None:
    work = Work(LONG)
    batcher = Batcher(work, concerns_all)
    askers = ask(batcher, 1)
    await asyncio.sleep(0)
    askers += ask(batcher, 2, 3)
    await asyncio.sleep(0)
    await batcher.close()
    answers = await gathered(askers + ask(batcher, 4))
    assert [type(answer) for answer in answers] == [asyncio.CancelledError] * 4
    await asyncio.sleep(LONG)
    assert work.batches == [[1]]


@given(
    coming=st.lists(st.tuples(st.sampled_from([0.0, SHORT, 3 * SHORT]), st.booleans()), max_size=30),
    seconds=st.sampled_from([0.0, SHORT, LONG]),
    gather_seconds=st.sampled_from([0.0, SHORT]),
    spoilt_by=st.integers(0, 30),
)
@virtually
async def test_everybody_who_stays_gets_its_own_answer_whenever_it_comes(
    coming: list[tuple[float, bool]], seconds: float, gather_seconds: float, spoilt_by: int
) -> None:
    batcher = Batcher(Work(seconds, spoilt_by=spoilt_by), concerns_all, gather_seconds)
    staying: dict[int, asyncio.Task[int]] = {}
    going: list[asyncio.Task[int]] = []
    for query, (gap, goes) in enumerate(coming):
        await asyncio.sleep(gap)
        (asker,) = ask(batcher, query)
        if goes:
            virtual_loop().call_later(SHORT / 2, asker.cancel)
            going.append(asker)
        else:
            staying[query] = asker
    for query, asker in staying.items():
        if query == spoilt_by:
            with pytest.raises(LookupError, match=str(query)):
                await asker
        else:
            assert await asker == query * 10
    await asyncio.gather(*going, return_exceptions=True)  # one may have had its answer, or an error, in time


# Sets


class Doing:
    """Work of a `Conflator` that takes so many seconds."""

    def __init__(self, seconds: float = SHORT, **options: Any) -> None:
        self.done: list[list[str]] = []
        self.begun: list[float] = []
        self.at_once = self.most_at_once = 0
        self._seconds = seconds
        self._tasks: set[asyncio.Task[Any]] = set()
        self.conflator = Conflator[str](self._work, self._start, **options)

    def _start(self, work: Any) -> None:
        background.start(work, self._tasks)

    async def _work(self, items: Sequence[str]) -> None:
        self.done.append(list(items))
        self.begun.append(asyncio.get_running_loop().time())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(self._seconds)
        self.at_once -= 1


@virtually
async def test_what_is_added_together_is_done_together_each_once_and_in_its_order() -> None:
    doing = Doing()
    doing.conflator.add(["b", "a", "b"])
    doing.conflator.add(["c", "a"])
    await asyncio.sleep(LONG)
    assert doing.done == [["b", "a", "c"]]
    assert not doing.conflator.waiting


@virtually
async def test_what_is_added_while_it_works_is_done_next_also_if_it_is_the_same() -> None:
    doing = Doing()
    doing.conflator.add(["a"])
    await asyncio.sleep(SHORT / 2)
    for _ in range(3):
        doing.conflator.add(["a", "b"])
    assert list(doing.conflator.waiting) == ["a", "b"]
    await asyncio.sleep(LONG)
    assert doing.done == [["a"], ["a", "b"]]
    assert doing.begun == [0.0, pytest.approx(SHORT)]


@virtually
async def test_at_most_so_much_is_under_way() -> None:
    doing = Doing(LONG, most=2)
    for item in "abcd":
        doing.conflator.add([item])
        await asyncio.sleep(SHORT)
    await asyncio.sleep(3 * LONG)
    assert doing.done == [["a"], ["b"], ["c", "d"]]
    assert doing.most_at_once == 2


@virtually
async def test_what_comes_within_the_time_of_gathering_is_done_together() -> None:
    doing = Doing(gather_seconds=SHORT)
    doing.conflator.add(["a"])
    await asyncio.sleep(SHORT / 2)
    doing.conflator.add(["b"])
    await asyncio.sleep(LONG)
    assert doing.done == [["a", "b"]]
    assert doing.begun == [pytest.approx(SHORT)]


@virtually
async def test_nothing_is_done_about_nothing() -> None:
    doing = Doing()
    doing.conflator.add([])
    await asyncio.sleep(LONG)
    assert doing.done == []
    doing.conflator.add(["a"])
    await asyncio.sleep(LONG)
    assert doing.done == [["a"]]
