"""Waiting for what happens elsewhere, and saying what was waited for and what was seen when it doesn't happen.

A wait ends as soon as its condition holds, so its limit is no measure of speed: it is there to end a test that would
wait for ever, however slow the machine. Seconds that are promised are measured by `tests.stopwatch`.
"""

from __future__ import annotations

import asyncio
import inspect
import linecache
import reprlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")

LIMIT_SECONDS = 120.0
PAUSE_SECONDS = 0.01

_shorten = reprlib.Repr()  # its arguments come with Python 3.12
_shorten.maxlist = _shorten.maxdict = _shorten.maxset = _shorten.maxtuple = 20
_shorten.maxstring, _shorten.maxother = 500, 1000


class NotInTimeError(AssertionError):
    """What a test has waited for didn't happen."""

    def __init__(self, what: str, seconds: float, seen: str) -> None:
        super().__init__(f"not within {seconds:.0f} s: {what}; seen: {seen or 'nothing'}")


async def eventually(
    condition: Callable[[], T | Awaitable[T]],
    what: str = "",
    *,
    seconds: float = LIMIT_SECONDS,
    seen: Any = None,
) -> T:
    """Wait until the condition holds, and return what it gave; `what` is otherwise told by the condition's own text.

    A condition that has to wait for its answer is asked again after it.
    """
    deadline = time.monotonic() + seconds
    while not (found := await _answer_of(condition)):
        if time.monotonic() > deadline:
            raise NotInTimeError(what or text_of(condition), seconds, _seen(seen, condition))
        await asyncio.sleep(PAUSE_SECONDS)
    return found


async def _answer_of(condition: Callable[[], T | Awaitable[T]]) -> T:
    found = condition()
    return await found if inspect.isawaitable(found) else found


def until(
    condition: Callable[[], T],
    what: str = "",
    *,
    seconds: float = LIMIT_SECONDS,
    seen: Any = None,
    pause: Callable[[], object] = lambda: time.sleep(PAUSE_SECONDS),
) -> T:
    """The same in a thread, whose work, if it has some, goes on in the pauses."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise NotInTimeError(what or text_of(condition), seconds, _seen(seen, condition))
        pause()
    return found


@asynccontextmanager
async def limit(what: str, *, seconds: float = LIMIT_SECONDS, seen: Any = None) -> AsyncIterator[None]:
    """End what is done inside: `async with limit("bob gets the event", seen=lambda: bob.frames): …`."""
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise NotInTimeError(what, seconds, _seen(seen)) from None


def text_of(function: Callable[..., Any]) -> str:
    """The body of a lambda as it stands in the test, and the name of any other function."""
    code = getattr(function, "__code__", None)
    if code is None or code.co_name != "<lambda>":
        return getattr(function, "__qualname__", repr(function))
    places = [place for place in code.co_positions() if all(place)]
    source = linecache.getlines(code.co_filename)
    if not places or not source:
        return "a condition"
    # Positions are bytes of UTF-8 in lines that are counted from 1.
    begin, end = (
        min((line, column) for line, _, column, _ in places),
        max((to, end) for _, to, _, end in places),
    )
    lines = [line.encode() for line in source[begin[0] - 1 : end[0]]]
    lines[-1] = lines[-1][: end[1]]
    lines[0] = lines[0][begin[1] :]
    return " ".join(b" ".join(lines).decode().split())


def _seen(seen: Any, condition: Callable[..., Any] | None = None) -> str:
    """What the test gives to be shown, or else what its condition looks at."""
    try:
        if seen is not None:
            return _shorten.repr(seen() if callable(seen) else seen)
        if condition is None:
            return ""
        looked_at = inspect.getclosurevars(condition).nonlocals
        return ", ".join(f"{name}={_shorten.repr(value)}" for name, value in looked_at.items())
    except Exception as error:  # what is looked at may be what has broken
        return f"{type(error).__name__}: {error}"
