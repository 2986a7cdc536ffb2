"""Run an awaitable at once as far as it goes, without a task; finish it in one only if it has to wait."""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from types import coroutine
from typing import Any


def run_eagerly(awaitable: Awaitable[Any]) -> Awaitable[None] | None:
    """Run `awaitable` until it first waits; return None if it is done, else what finishes it.

    What it raises is raised here.
    """
    running = awaitable.__await__()
    try:
        waits_for = next(running)
    except StopIteration:
        return None
    return _rest(running, waits_for)


@coroutine
def _rest(running: Any, waits_for: Any) -> Generator[Any, Any, None]:
    while True:
        try:
            yield waits_for
        except BaseException as error:
            # Granian's iterators can't be thrown into; then it is raised here, as `yield from` does (PEP 380).
            throw = getattr(running, "throw", None)
            if throw is None:
                # They keep the waiting task and aren't seen by the garbage collector; the traceback keeps this frame.
                del running, waits_for
                raise
            try:
                waits_for = throw(error)
            except StopIteration:
                return
        else:
            break
    yield from running
