"""Asking the database together about all who wait at the same moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from orgrealtime.concurrency import background
from orgrealtime.stream import database

Query = TypeVar("Query")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

GROUP = 64
DESKS = 2
PATIENCE_SECONDS = 0.1  # after which those who wait are given another desk


class Run(Protocol):
    """How a function is run in a database thread: `database.run` and its like."""

    def __call__(self, function: Callable[..., Result], /, *args: Any) -> Awaitable[Result]: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Query, Answer]):
    query: Query
    answer: asyncio.Future[Answer]

    def tell(self, answer: Answer | Exception) -> None:
        if self.answer.done():  # gone meanwhile
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer)
        else:
            self.answer.set_result(answer)


class Batcher(Generic[Query, Answer]):
    """Asks about queries: a desk takes all that wait, which is a statement for many where it would be one for each.

    Who comes alone doesn't wait. Another desk opens only where the first is held up: two that take turns halve the
    groups, and so double what a query costs. `function` returns an answer or an error for each query, in their order;
    if it raises for one of them, the others don't pay for it. `gather_seconds` is how long a desk lets a crowd come
    together that is smaller than a group.
    """

    def __init__(
        self,
        run: Run,
        function: Callable[[Sequence[Query]], Sequence[Answer | Exception]],
        gather_seconds: float = 0.0,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._run = run
        self._function = function
        self._gather_seconds = gather_seconds
        self._waiting: list[_Waiting[Query, Answer]] = []
        self._open = 0
        self._patience: asyncio.TimerHandle | None = None
        self._works: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    async def ask(self, query: Query) -> Answer:
        """Return the answer to a query; raise the error that it is, or what went wrong."""
        if self._is_closed:
            raise asyncio.CancelledError
        waiting: _Waiting[Query, Answer] = _Waiting(query, self._loop.create_future())
        self._waiting.append(waiting)
        if not self._open:
            self._open_one()
        elif self._patience is None:
            self._be_patient()
        return await waiting.answer

    async def close(self) -> None:
        """End all work; who still waits, or asks from now on, is cancelled."""
        self._is_closed = True
        self._stop_patience()
        await background.end(self._works)
        for waiting in self._waiting:
            waiting.answer.cancel()

    def _open_one(self) -> None:
        self._stop_patience()
        if self._waiting and self._open < DESKS:
            self._open += 1
            background.start(self._serve(), self._works)

    def _be_patient(self) -> None:
        self._stop_patience()
        if self._waiting and self._open < DESKS:
            self._patience = self._loop.call_later(PATIENCE_SECONDS, self._open_one)

    def _stop_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    async def _serve(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:GROUP], self._waiting[GROUP:]
                self._be_patient()
                try:
                    await self._ask(group)
                except Exception as error:
                    for waiting in group:
                        waiting.tell(error)
                finally:
                    for waiting in group:
                        waiting.answer.cancel()  # unless it has been answered
                if self._gather_seconds and 0 < len(self._waiting) < GROUP:
                    await asyncio.sleep(self._gather_seconds)
        finally:
            self._open -= 1

    async def _ask(self, group: Sequence[_Waiting[Query, Answer]]) -> None:
        group = [waiting for waiting in group if not waiting.answer.done()]
        if not group:
            return
        answers: Sequence[Answer | Exception]
        try:
            answers = await self._run(self._function, [waiting.query for waiting in group])
        except Exception as error:
            if len(group) > 1 and not await self._run(database.explains, error):
                for waiting in group:
                    await self._ask([waiting])
                return
            answers = [error] * len(group)
        for waiting, answer in zip(group, answers, strict=True):
            waiting.tell(answer)
