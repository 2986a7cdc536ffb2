"""An event loop whose clock is the test's: nothing sleeps, waiting only moves the clock."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

P = ParamSpec("P")


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing is left that could end it")
        self.now += max(timeout, 0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """`loop.pass_time(60)` runs what is due within a virtual minute; what tasks raise is in `errors`."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self.set_debug(False)  # which would take many times as long
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda loop, context: self.errors.append(context))

    def time(self) -> float:
        return self._virtual.now

    def pass_time(self, seconds: float) -> None:
        self.run_until_complete(asyncio.sleep(seconds))

    def block(self, seconds: float) -> None:
        """Be as long in a callback, during which nothing else can happen."""
        self._virtual.now += seconds

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function that needs a running loop."""

        async def inside() -> None:
            function(*arguments)

        self.run_until_complete(inside())

    def end(self) -> None:
        tasks = asyncio.all_tasks(self)
        for task in tasks:
            task.cancel()
        if tasks:
            self.run_until_complete(asyncio.wait(tasks))
        self.close()


def virtually(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test on a virtual clock; it fails as well if one of its tasks does."""

    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        loop = VirtualLoop()
        try:
            loop.run_until_complete(test(*arguments, **named))
        finally:
            loop.end()
        assert not loop.errors, loop.errors

    return run


def virtual_loop() -> VirtualLoop:
    """The loop of a test that runs virtually."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop
