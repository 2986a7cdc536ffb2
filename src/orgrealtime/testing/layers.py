"""A channel layer that loses, doubles and reorders messages, to prove that nothing depends on rings."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from orgrealtime.delivery import bell

__all__ = ["LossyChannelLayer"]


class LossyChannelLayer:
    """Wraps another channel layer; some group messages are dropped, sent twice, or sent after the next one.

    `layer` is the entry of the wrapped one, as in `CHANNEL_LAYERS`. `drop`, `double` and `reorder` are probabilities
    from 0 to 1; `seed` makes the choice repeatable. All rings of this process go through the layer, so that one
    process is enough, with the in-memory layer inside. A message that waits for a next one is lost if none comes.
    Raises ImproperlyConfigured for anything else.
    """

    carries_all_rings = True

    def __init__(
        self,
        layer: Any,
        drop: float = 0.0,
        double: float = 0.0,
        reorder: float = 0.0,
        seed: int | None = None,
    ) -> None:
        odds: dict[str, Any] = {"drop": drop, "double": double, "reorder": reorder}
        for name, value in odds.items():
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ImproperlyConfigured(f"{name!r} is a probability from 0 to 1, not {value!r:.60}")
        if not isinstance(layer, Mapping) or "BACKEND" not in layer:
            raise ImproperlyConfigured(
                f"'layer' is the wrapped layer as in CHANNEL_LAYERS, a dict with 'BACKEND', not {layer!r:.60}"
            )
        self._inner: Any = import_string(layer["BACKEND"])(**layer.get("CONFIG", {}))
        self._drop, self._double, self._reorder = drop, double, reorder
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._lock = threading.Lock()
        self._held: tuple[str, dict[str, Any]] | None = None
        self._home: asyncio.AbstractEventLoop | None = None

    def __getattr__(self, name: str) -> Any:
        # All that isn't lossy is the wrapped layer's own.
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    async def new_channel(self, *arguments: Any) -> Any:
        """Return a new channel of the wrapped layer; where that is in memory, its messages belong to this loop."""
        self._home = asyncio.get_running_loop()
        return await self._inner.new_channel(*arguments)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Send to a group: not at all, once, twice or later."""
        for target, sent in self._choose(group, message):
            await self._send(target, sent)

    def _choose(self, group: str, message: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
        # Without its sender it is heard by the process that sent it, which isn't told directly.
        ring = group, {key: value for key, value in message.items() if key != "sender"}
        with self._lock:
            if self._random.random() < self._drop:
                return []
            if self._held is None and self._random.random() < self._reorder:
                self._held = ring
                return []
            held, self._held = self._held, None
            copies = 2 if self._random.random() < self._double else 1
        return [ring] * copies + ([] if held is None else [held])

    async def _send(self, group: str, message: dict[str, Any]) -> None:
        home = self._home
        sending = self._inner.group_send(group, message)
        if home is None or home is asyncio.get_running_loop() or not bell.is_in_memory(self._inner):
            await sending
        elif home.is_closed():
            sending.close()  # the loop of its listeners has ended
        else:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(sending, home))
