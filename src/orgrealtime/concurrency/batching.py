"""Doing together what is asked for at the same moment: batches with an answer for each, and a set without answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from orgrealtime.concurrency import background

Query = TypeVar("Query")
Answer = TypeVar("Answer")
Item = TypeVar("Item", bound=Hashable)

MAX_BATCH = 64
MAX_BATCHES_AT_ONCE = 2
HELD_UP_SECONDS = 0.1  # after which the queries that wait go into another batch, beside that under way

ConcernsAll = Callable[[Exception], Awaitable[bool]]


async def answer_each(
    work: Callable[[Sequence[Query]], Awaitable[Sequence[Answer | Exception]]],
    queries: Sequence[Query],
    concerns_all: ConcernsAll,
) -> list[Answer | Exception]:
    """Return the answer to each query, asked for together; one by one if a single query makes `work` fail for all.

    `concerns_all` tells whether an error has nothing to do with a single query (the database is away): it is raised.
    """
    try:
        return list(await work(queries))
    except Exception as error:
        if await concerns_all(error):
            raise
        if len(queries) == 1:
            return [error]
    return [answer for query in queries for answer in await answer_each(work, [query], concerns_all)]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Query, Answer]):
    query: Query
    answer: asyncio.Future[Answer]

    def tell(self, answer: Answer | Exception) -> None:
        if self.answer.done():  # the asker has gone meanwhile
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class Batcher(Generic[Query, Answer]):
    """Answers queries in batches: one statement for all that wait, where it would be one for each.

    A query that comes alone doesn't wait. A second batch begins only if the first is held up: two that take turns would
    halve the batches, and so double what a query costs. `work` returns an answer or an error for each query, in their
    order; if it raises because of one of them, all are asked again one by one, unless `concerns_all` says that the
    error concerns all of them. `gather_seconds` is how long a batch that isn't full waits for more, while others are
    coming.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Query]], Awaitable[Sequence[Answer | Exception]]],
        concerns_all: ConcernsAll,
        gather_seconds: float = 0.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._work = work
        self._concerns_all = concerns_all
        self._gather_seconds = gather_seconds
        self._waiting: list[_Waiting[Query, Answer]] = []
        self._running = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def ask(self, query: Query) -> Answer:
        """Return the answer to a query; raise the error that it is, or what went wrong."""
        if self._is_closed:
            raise asyncio.CancelledError
        waiting: _Waiting[Query, Answer] = _Waiting(query, self._loop.create_future())
        self._waiting.append(waiting)
        if not self._running:
            self._start()
        elif self._timer is None:
            self._start_later()
        return await waiting.answer

    async def close(self) -> None:
        """End all work; queries that wait, or come from now on, are cancelled."""
        self._is_closed = True
        self._stop_timer()
        await background.end(self._tasks)
        for waiting in self._waiting:
            waiting.answer.cancel()

    def _start(self) -> None:
        self._stop_timer()
        if self._waiting and self._running < MAX_BATCHES_AT_ONCE:
            self._running += 1
            background.start(self._run(), self._tasks)

    def _start_later(self) -> None:
        self._stop_timer()
        if self._waiting and self._running < MAX_BATCHES_AT_ONCE:
            self._timer = self._loop.call_later(HELD_UP_SECONDS, self._start)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _run(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:MAX_BATCH], self._waiting[MAX_BATCH:]
                self._start_later()
                await self._answer([waiting for waiting in batch if not waiting.answer.done()])
                if self._gather_seconds and 0 < len(self._waiting) < MAX_BATCH:
                    await asyncio.sleep(self._gather_seconds)
        finally:
            self._running -= 1

    async def _answer(self, batch: Sequence[_Waiting[Query, Answer]]) -> None:
        if not batch:
            return
        answers: Sequence[Answer | Exception]
        try:
            answers = await answer_each(self._work, [waiting.query for waiting in batch], self._concerns_all)
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.tell(answer)
        except Exception as error:
            for waiting in batch:
                waiting.tell(error)
        finally:
            for waiting in batch:
                waiting.answer.cancel()  # unless it has been answered


class Conflator(Generic[Item]):
    """Does something about a set of items: what is added while it works is done next, each item once.

    `work` gets all that wait, in the order in which they were added, and must not raise. `start` runs a coroutine in
    the background. At most `most` calls of `work` are under way; each begins `gather_seconds` after an item was added.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Awaitable[None]],
        start: Callable[[Coroutine[Any, Any, None]], object],
        most: int = 1,
        gather_seconds: float = 0.0,
    ) -> None:
        self._work = work
        self._start = start
        self._most = most
        self._gather_seconds = gather_seconds
        self._running = 0
        self._waiting: dict[Item, None] = {}

    @property
    def waiting(self) -> Collection[Item]:
        """The items about which `work` hasn't been called yet."""
        return self._waiting.keys()

    def add(self, items: Iterable[Item]) -> None:
        """Have something done about these items soon."""
        self._waiting.update(dict.fromkeys(items))
        if self._waiting and self._running < self._most:
            self._running += 1
            self._start(self._run())

    async def _run(self) -> None:
        try:
            while self._waiting:
                if self._gather_seconds:
                    await asyncio.sleep(self._gather_seconds)
                items, self._waiting = list(self._waiting), {}
                await self._work(items)
        finally:
            self._running -= 1
