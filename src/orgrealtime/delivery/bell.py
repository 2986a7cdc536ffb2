"""The bell: tells hubs that something may have happened. The only file that touches the channel layer.

What travels is a hint (which organisation, which user to check again), never content. A lost ring costs a delay.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import enum
import logging
import random
import threading
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer

from orgrealtime.concurrency import background
from orgrealtime.conf import get_settings
from orgrealtime.keys import organization_keys, user_keys
from orgrealtime.protocol.keys import MAX_NAME

logger = logging.getLogger("orgrealtime.bell")

MESSAGE_TYPE = "orgrealtime.ring"
EVERYONE = "orgrealtime"  # the group of all hubs
SEND_TIMEOUT = 5.0
CANARY_SECONDS = 1.0
JOIN_SECONDS = 1.0  # the hub polls meanwhile: a layer that hangs must not hold it up
RETRY_SECONDS = 1.0
FAILURES_AT_START = 3
SILENT_PROOFS = 2
UNREADABLE_MESSAGES = 1000  # one after the other: then it may be more than the messages
LEAVE_SECONDS = 2.0
FIRST_RETRY_SECONDS = 0.05
LONGEST_RETRY_SECONDS = 2.0
EMPTYING = {"RedisChannelLayer": "close_pools", "RedisPubSubChannelLayer": "flush"}
EXIT_SECONDS = 2.0


class HintKind(enum.Enum):
    """What a hint is about."""

    EVENTS = "events"  # an organisation may have new ones
    ACCESS_OF_USER = "access of a user"  # it may have ended
    ACCESS_OF_ORGANIZATION = "access to an organisation"  # that of all its connections may have ended
    MISSED = (
        "missed"  # hints about an organisation may have been missed until now: it has only just been joined
    )


class Hint(NamedTuple):
    """What a ring says, by the names of keys: new events in an organisation, or access that may have ended.

    The access of `user`, or with `everybody` that of all users who are connected to the organisation. An app may give
    hints of a kind of its own, by a name: `about`.
    """

    organization: str | None = None
    user: str | None = None
    everybody: bool = False
    about: str | None = None

    @property
    def kind(self) -> HintKind | str:
        """What it is about."""
        if self.about is not None:
            return self.about
        if self.everybody:
            return HintKind.ACCESS_OF_ORGANIZATION
        return HintKind.EVENTS if self.user is None else HintKind.ACCESS_OF_USER


class Listener(Protocol):
    """A hub of this process."""

    def hear(self, hint: Hint) -> None:
        """Take a hint; called from any thread, must neither block nor raise."""


def group(organization_id: Any) -> str:
    """Return the layer's group of an organisation."""
    return _group_of(organization_keys().name(organization_id))


def _group_of(organization: str) -> str:
    return f"org-{organization}"


def get_layer() -> Any:
    """Return the channel layer that reaches other processes, or None.

    The in-memory layer reaches no hub that `add_listener` doesn't, and it isn't thread-safe.
    """
    try:
        layer = get_channel_layer(get_settings().CHANNEL_LAYER)
    except Exception as error:
        logger.error(
            "the channel layer can't be loaded, polling instead", extra={"error": type(error).__name__}
        )
        return None
    return None if is_in_memory(layer) else layer


def _has_layer() -> bool:
    """Tell whether there is a layer, be it one that reaches no other process."""
    with contextlib.suppress(Exception):
        return get_channel_layer(get_settings().CHANNEL_LAYER) is not None
    return False


def forget_layer() -> None:
    """Have the channel layer made anew: a forked child must not use the connections of its parent."""
    channel_layers.backends.pop(get_settings().CHANNEL_LAYER, None)


def is_in_memory(layer: object) -> bool:
    """Tell whether a layer reaches this process only."""
    return isinstance(layer, InMemoryChannelLayer)


def read_message(message: object) -> Hint | None:
    """Return the hint of a message from the layer; None for anything else, and for what this process sent itself."""
    if (
        not isinstance(message, dict)
        or message.get("type") != MESSAGE_TYPE
        or message.get("sender") == _ringer.token
    ):
        return None
    organization, user, about = (message.get(name) for name in ("organization", "user", "about"))
    if any(
        value is not None and not (isinstance(value, str) and len(value) <= MAX_NAME)
        for value in (organization, user, about)
    ):
        return None
    everybody = message.get("everybody", False)
    if type(everybody) is not bool:
        return None
    is_special = everybody or about is not None
    if is_special and (organization is None or user is not None or (everybody and about is not None)):
        return None
    return Hint(organization, user, everybody, about)


def ring(organization_id: Any) -> None:
    """Say that an organisation may have new events; never blocks, never raises."""
    _tell(lambda: Hint(organization=organization_keys().name(organization_id)))


def check_user(user_id: Any, organization_id: Any = None) -> None:
    """Say that the access of a user, everywhere or to one organisation, may have ended; never blocks, never raises."""
    _tell(
        lambda: Hint(
            organization=None if organization_id is None else organization_keys().name(organization_id),
            user=user_keys().name(user_id),
        )
    )


def check_organization(organization_id: Any) -> None:
    """Say that the access of everybody to an organisation may have ended; never blocks, never raises."""
    _tell(lambda: Hint(organization=organization_keys().name(organization_id), everybody=True))


def tell(organization_id: Any, about: str) -> None:
    """Say that what an app keeps of an organisation may have changed; never blocks, never raises."""
    _tell(lambda: Hint(organization=organization_keys().name(organization_id), about=about))


def flush(seconds: float = EXIT_SECONDS) -> bool:
    """Wait until all rings of this process have been sent, at most so long; return whether they have."""
    return _ringer.flush(seconds)


def add_listener(listener: Listener) -> None:
    """Tell a hub of this process directly, without the layer."""
    _listeners.append(listener)


def remove_listener(listener: Listener) -> None:
    """Stop telling a hub."""
    with contextlib.suppress(ValueError):
        _listeners.remove(listener)


def _tell(make_hint: Callable[[], Hint]) -> None:
    try:
        hint = make_hint()
        layer = get_layer()
        # A layer that tests put in to lose rings must be able to lose the rings of its own process too.
        if not getattr(type(layer), "carries_all_rings", False):
            for listener in tuple(_listeners):
                with contextlib.suppress(RuntimeError):  # its loop has just ended
                    listener.hear(hint)
        if layer is not None:
            _ringer.add(hint)
    except Exception:
        logger.exception("a ring was lost; events are found by polling")


class _Ringer:
    """A daemon thread with a loop of its own that sends hints; equal hints that wait together are sent as one.

    `async_to_sync(layer.group_send)` would open a connection per call, and a layer that hangs would hang the caller.
    """

    def __init__(self) -> None:
        self.token = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._waiting: dict[Hint, None] = {}
        self._idle = threading.Event()
        self._idle.set()
        self._is_failing = False
        self._is_alive: Callable[[], bool] = lambda: False
        self._wake: Callable[[], object] | None = None

    def add(self, hint: Hint) -> None:
        with self._lock:
            self._waiting[hint] = None
            self._idle.clear()
            if not self._is_alive():
                self._wake = None
                self._is_alive = background.run_in_thread(self._run, "orgrealtime-bell")
            elif self._wake is not None:
                self._wake()

    def flush(self, seconds: float) -> bool:
        return self._idle.wait(seconds)

    def _run(self) -> None:
        asyncio.run(self._send_for_ever())

    async def _send_for_ever(self) -> None:
        loop, wake = asyncio.get_running_loop(), asyncio.Event()
        with self._lock:
            self._wake = lambda: loop.call_soon_threadsafe(wake.set)
        while True:
            with self._lock:
                hints, self._waiting = self._waiting, {}
                if not hints:
                    self._idle.set()
            for hint in hints:
                await self._send(hint)
            if not hints:
                await wake.wait()
                wake.clear()

    async def _send(self, hint: Hint) -> None:
        target = EVERYONE if hint.organization is None else _group_of(hint.organization)
        message = {"type": MESSAGE_TYPE, "sender": self.token, **hint._asdict()}
        try:
            async with asyncio.timeout(SEND_TIMEOUT):
                await get_layer().group_send(target, message)
        except Exception as error:
            if not self._is_failing:
                logger.warning(
                    "the layer takes no rings", extra={"target": target, "error": type(error).__name__}
                )
            self._is_failing = True
            await asyncio.sleep(RETRY_SECONDS)  # what comes meanwhile is sent as one
        else:
            if self._is_failing:
                logger.info("the layer takes rings again")
            self._is_failing = False


class Subscription:
    """How a hub hears the rings of other processes: one channel of the layer, in the groups of its organisations.

    `is_alone` says that the layer knows of no other processes, so that none are to be heard.

    `is_proved` says whether a ring of its own has come back lately, and all else could be read, so that the database
    may be asked less often. A layer that takes rings and brings none back is opened anew.
    """

    def __init__(self, on_hint: Callable[[Hint], None]) -> None:
        self.is_proved = False
        self._on_hint = on_hint
        layer = get_layer()
        self.is_alone = layer is None and _has_layer()
        self._layer = _own(layer)
        self._channel: str | None = None
        self._canary = f"orgrealtime-canary-{uuid.uuid4().hex}"
        self._canary_heard = asyncio.Event()
        # The hub's own comes last: when it rings, all have been joined.
        self._groups: dict[str, None] = {EVERYONE: None}
        self._receiver: asyncio.Task[None] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._is_open = False
        self._trouble: str | None = None  # since the last proof
        self._silent_proofs = 0  # in a row: the layer took the ring and didn't bring it back
        self._failures = 0
        self._was_proved = False

    async def join(self, organization_id: Any) -> None:
        """Hear the rings of an organisation from now on; if the layer can't, `join_again` will try again."""
        self._groups[group(organization_id)] = None
        if self._channel is not None:
            await self._try_to_join(group(organization_id))

    async def leave(self, organization_id: Any) -> None:
        """Stop hearing the rings of an organisation."""
        name = group(organization_id)
        if self._groups.pop(name, "") is None and self._channel is not None:
            with contextlib.suppress(Exception):  # what it still hears is nothing to the hub
                async with asyncio.timeout(JOIN_SECONDS):
                    await self._layer.group_discard(name, self._channel)
            if name in self._groups:  # a connection has come meanwhile: `join` may have overtaken `leave`
                await self._try_to_join(name)

    async def prove(self) -> bool:
        """Ring for this hub alone and return whether it is heard, and nothing has gone wrong since the last time."""
        if self._layer is None:
            return False
        trouble, self._trouble = self._trouble, None
        try:
            async with asyncio.timeout(CANARY_SECONDS):
                await self._hear_canary()
        except Exception as error:
            trouble = trouble or type(error).__name__
        if trouble is None:
            self._say_that_it_rings()
        else:
            self._say_that_it_is_silent(trouble)
        if self._silent_proofs >= SILENT_PROOFS:
            self._silent_proofs = 0
            self._is_open = False
        return self.is_proved

    async def _hear_canary(self) -> None:
        self._canary_heard.clear()
        if not self._is_open:
            if self._opening is None:
                # First, for it leaves nothing behind where the layer can't be reached.
                await self._layer.group_send(self._canary, {"type": MESSAGE_TYPE})
                self._opening = asyncio.get_running_loop().create_task(self._open())
            # It may take longer than this proof where there are thousands of groups.
            await asyncio.wait([self._opening])
            opening, self._opening = self._opening, None
            opening.result()
        await self._layer.group_send(self._canary, {"type": MESSAGE_TYPE, "canary": self._canary})
        self._silent_proofs += 1
        await self._canary_heard.wait()
        self._silent_proofs = 0

    def _say_that_it_rings(self) -> None:
        if not self.is_proved:
            logger.info("the layer rings")
        self.is_proved = self._was_proved = True

    def _say_that_it_is_silent(self, error: str) -> None:
        self._failures += 1
        # At the start a subscription may be late, which says nothing.
        if self.is_proved or (self._failures == FAILURES_AT_START and not self._was_proved):
            logger.warning("the layer doesn't ring, polling instead", extra={"error": error})
        self.is_proved = False

    async def join_again(self) -> None:
        """Join all groups once more: layers forget members after a time, and when their server restarts."""
        for name in (*self._groups, self._canary):
            if not self._is_open or not await self._try_to_join(name):
                return

    async def close(self) -> None:
        """Stop hearing."""
        await background.end([self._opening] if self._opening else [])
        await self._leave_all()
        await self._empty_layer()

    async def _open(self) -> None:
        if self._channel is not None:
            await self._leave_all()
            if not await self._empty_layer():
                self._layer = _own(self._layer)
        async with asyncio.timeout(JOIN_SECONDS):
            channel = self._channel = await self._layer.new_channel()
        self._receiver = asyncio.get_running_loop().create_task(self._receive(self._layer, channel))
        for name in (*self._groups, self._canary):
            if name in self._groups or name == self._canary:  # else left meanwhile
                await self._join(name)
        self._is_open = True

    async def _leave_all(self) -> None:
        channel, self._channel = self._channel, None
        if channel is None:
            return
        with contextlib.suppress(Exception):
            async with asyncio.timeout(LEAVE_SECONDS):
                for name in (*self._groups, self._canary):
                    await self._layer.group_discard(name, channel)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_SECONDS):
                await background.end([self._receiver] if self._receiver else [])

    async def _empty_layer(self) -> bool:
        """Let the layer forget what it has joined, and its connections; return whether it has."""
        if (method := _emptying(self._layer)) is None:
            return False
        try:
            async with asyncio.timeout(LEAVE_SECONDS):
                await getattr(self._layer, method)()
        except Exception:  # whatever the layer does
            return False
        return True

    async def _receive(self, layer: Any, channel: str) -> None:
        # receive() is never cancelled while the channel is in use: the pubsub layer would then unsubscribe.
        delay, errors = FIRST_RETRY_SECONDS, 0
        while True:
            try:
                message = await layer.receive(channel)
            except Exception as error:
                self._note(error, channel)
                errors += 1
                if errors < UNREADABLE_MESSAGES and not _is_of_the_server(error):
                    await asyncio.sleep(0)  # the message couldn't be read, which says nothing of the next
                    continue
                await asyncio.sleep(delay * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load, no secret
                delay = min(delay * 2, LONGEST_RETRY_SECONDS)
                continue
            delay, errors = FIRST_RETRY_SECONDS, 0
            if isinstance(message, dict) and message.get("canary") == self._canary:
                self._canary_heard.set()
            elif (hint := read_message(message)) is not None:
                self._on_hint(hint)

    async def _join(self, name: str) -> None:
        async with asyncio.timeout(JOIN_SECONDS):
            await self._layer.group_add(name, self._channel)

    async def _try_to_join(self, name: str) -> bool:
        channel = self._channel
        try:
            await self._join(name)
        except Exception as error:
            self._note(error, channel)
            return False
        return True

    def _note(self, error: Exception, channel: str | None) -> None:
        if channel == self._channel:  # else it is of a channel that has been left
            self._trouble = type(error).__name__


def _own(layer: Any) -> Any:
    """Return another layer of the same kind, which a hub may empty without harm to others, or this one if it can't."""
    return layer if _emptying(layer) is None else channel_layers.make_backend(get_settings().CHANNEL_LAYER)


def _emptying(layer: object) -> str | None:
    """Return the method by which a layer of channels_redis forgets its connections, and nothing of what is in Redis."""
    return next((EMPTYING[cls.__name__] for cls in type(layer).__mro__ if cls.__name__ in EMPTYING), None)


def _is_of_the_server(error: Exception) -> bool:
    """Tell whether an error says that the layer's server can't be asked, and not that a message can't be read."""
    # channels_redis lets through what redis-py raises, which need not be installed.
    return isinstance(error, OSError) or any(
        cls.__module__ == "redis.exceptions" for cls in type(error).__mro__
    )


_listeners: list[Listener] = []
_ringer = _Ringer()


def _start_afresh() -> None:
    # A forked child has neither the thread nor the loops of its parent.
    global _ringer
    _listeners.clear()
    _ringer = _Ringer()


background.after_fork_in_child(_start_afresh)
atexit.register(flush)
