"""Commands: the messages of clients that a consumer carries out, each by a method that is marked for it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from orgrealtime.conf import get_settings
from orgrealtime.errors import MessageError
from orgrealtime.protocol import wire

__all__ = ["command"]

logger = logging.getLogger("orgrealtime.connection")

Message = dict[str, Any]
H = TypeVar("H", bound=Callable[..., Any])


def command(name: str) -> Callable[[H], H]:
    """Let clients call an async method by messages of type `name`; it gets the message as a dict.

    What isn't marked so can't be called from the wire. Raise MessageError to answer with an `error` frame, which
    repeats the message's `ref`.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:-]{0,99}", str(name), re.ASCII):
        raise TypeError(
            f'use it as @command("name"), with letters, digits and _ . : -; {name!r:.60} is no name'
        )
    if name in wire.RESERVED_TYPES:
        raise ValueError(f"{name!r} is a frame of the protocol; name the command otherwise")

    def mark(method: H) -> H:
        if not inspect.iscoroutinefunction(method):
            raise TypeError(f"the command {name!r} must be an async method")
        method.command_name = name  # type: ignore[attr-defined]
        return method

    return mark


def protocol_command(name: str) -> Callable[[H], H]:
    """Mark a plain method that carries out a message of the protocol at once, before what waits in the queue.

    It gets the text of the message, of which only what it uses is read.
    """

    def mark(method: H) -> H:
        method.command_name = name  # type: ignore[attr-defined]
        return method

    return mark


def commands_of(cls: type) -> dict[str, str]:
    """Return the names of the marked methods of a class by the names of their commands.

    All bases count, and not consumers alone: a mixin that is no consumer may bring commands too.
    """
    return {
        method.command_name: name
        for base in reversed(cls.__mro__)
        for name, method in vars(base).items()
        if hasattr(method, "command_name")
    }


class _Connection(Protocol):
    """What the queue answers: a connection."""

    id: str
    close_code: int | None

    def reply(self, text: str) -> None:
        """Send a frame that is no event."""


class CommandQueue:
    """Carries out the commands of one connection one after the other, apart from receiving.

    A command that takes long would otherwise keep pongs from being seen.
    """

    __slots__ = ("_connection", "_task", "_waiting")

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._waiting: deque[tuple[str, Callable[[Message], Awaitable[None]], Message]] = deque()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether as many wait as `MAX_QUEUED_COMMANDS` allows."""
        return len(self._waiting) >= get_settings().MAX_QUEUED_COMMANDS

    def put(self, name: str, method: Callable[[Message], Awaitable[None]], message: Message) -> None:
        """Have a command carried out when those before it are."""
        self._waiting.append((name, method, message))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def close(self) -> None:
        """Cancel the command under way, and drop what waits."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        try:
            while self._waiting and self._connection.close_code is None:
                await self._carry_out(*self._waiting.popleft())
        finally:
            self._task = None

    async def _carry_out(
        self, name: str, method: Callable[[Message], Awaitable[None]], message: Message
    ) -> None:
        try:
            await method(message)
        except MessageError as error:
            ref = wire.ref_of(message.get("ref"))
            self._connection.reply(wire.error(error.code, str(error), ref, **error.details))
        except Exception:
            logger.exception(
                "a command failed", extra={"connection_id": self._connection.id, "command": name}
            )
            ref = wire.ref_of(message.get("ref"))
            self._connection.reply(wire.error("internal_error", "the server couldn't carry this out", ref))
