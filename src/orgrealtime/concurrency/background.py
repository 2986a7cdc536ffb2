"""Background tasks and threads: tasks are kept while they run and ended for certain, threads are real ones."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Collection, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CANCEL_AGAIN_SECONDS = 0.1


def start(work: Coroutine[Any, Any, T], running: set[asyncio.Task[Any]]) -> asyncio.Task[T]:
    """Run `work` in a task, which is one of `running` until it has ended: the loop alone would forget it."""
    task = asyncio.get_running_loop().create_task(work)
    running.add(task)
    task.add_done_callback(running.discard)
    return task


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: redis-py turns a cancellation that comes while it connects into an error of its own.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=CANCEL_AGAIN_SECONDS)


def run_in_thread(work: Callable[[], None], name: str) -> Callable[[], bool]:
    """Run `work` in a daemon thread of the operating system; return what tells whether it still runs.

    gevent puts greenlets in the place of threads. An event loop in one of them would seem to run in all code of the
    process, and Django refuses to use the database where one runs.
    """
    gevent = _gevent()
    if gevent is None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        thread.start()
        return thread.is_alive
    ended: list[None] = []

    def run() -> None:
        try:
            work()
        finally:
            ended.append(None)

    gevent.get_original("_thread", "start_new_thread")(run, ())
    return lambda: not ended


def are_threads_greenlets() -> bool:
    """Tell whether gevent has put greenlets in the place of this process's threads."""
    return _gevent() is not None


def _gevent() -> Any:
    # Looked for, not imported: a process in which nobody has imported it hasn't been patched.
    gevent: Any = sys.modules.get("gevent.monkey")
    return gevent if gevent is not None and gevent.is_module_patched("threading") else None


def after_fork_in_child(work: Callable[[], None]) -> None:
    """Do `work` in each forked child first, where processes can be forked at all: on Windows they can't."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=work)
