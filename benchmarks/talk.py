"""Clients that talk with each other in a room, in a process of their own: `python -m benchmarks.talk`, told by JSON.

What is said has its number between two `^`, by which it is found in any peer's frames; nothing else of them is read.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Collection, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import uvloop
import websockets

from benchmarks import machine

MARK = re.compile(r"\^(\d+)\^")
PING, PONG = "2", "3"  # of Engine.IO
LIMIT_SECONDS = 60.0


@dataclass
class Said:
    """Something that has been said: when, who hasn't seen it yet, and what is done once its author and all have."""

    sent_at: float
    unseen: set[int]
    own: asyncio.Future[None]
    last: asyncio.Future[None]


class Talk:
    """What has been said and not been seen by all, and how many seconds it `took` where it has."""

    def __init__(self, sockets: list[websockets.ClientConnection], message: str) -> None:
        self._sockets = sockets
        self._message = message
        self._numbers = itertools.count()
        self._said: dict[int, Said] = {}
        self._newest_frame = ""
        self.took: list[float] = []

    async def listen(self, client: int) -> None:
        """Take what a client gets; raise ConnectionClosed or RuntimeError if its connection ends."""
        async for frame in self._sockets[client]:
            if frame == PING:
                await self._sockets[client].send(PONG)
            self._newest_frame = str(frame)
            for number in MARK.findall(self._newest_frame):
                self._see(client, int(number))
        code = self._sockets[client].close_code
        raise RuntimeError(f"a connection was closed with {code} after {self._newest_frame:.300}")

    def _see(self, client: int, number: int) -> None:
        said = self._said.get(number)
        if said is None or client not in said.unseen:
            return
        said.unseen.discard(client)
        if client == self._author(number):
            said.own.set_result(None)
        if not said.unseen:
            del self._said[number]
            self.took.append(time.perf_counter() - said.sent_at)
            said.last.set_result(None)

    def _author(self, number: int) -> int:
        return number % len(self._sockets)

    async def say(self, number: int) -> Said:
        """Have the client whose turn this number is say it."""
        own, last = (asyncio.get_running_loop().create_future() for _ in range(2))
        everybody = set(range(len(self._sockets)))
        said = self._said[number] = Said(time.perf_counter(), everybody, own, last)
        await self._sockets[self._author(number)].send(self._message.replace("#", str(number)))
        return said

    async def gather(self) -> None:
        """Say something until all have it: they are in the room then. Say more for a second, and forget it all."""
        async with asyncio.timeout(LIMIT_SECONDS):
            is_seen: Collection[Any] = ()
            while not is_seen:
                said = await self.say(next(self._numbers))
                is_seen, _ = await asyncio.wait([said.last], timeout=1)
        self._said.clear()
        await self.keep_pace(20, 1)
        self.took.clear()

    async def keep_pace(self, rate: float, seconds: float) -> None:
        """Have clients speak by turns, so many times a second, and wait until all has been seen."""
        begun, said = time.monotonic(), []
        for each in range(round(rate * seconds)):
            await asyncio.sleep(begun + each / rate - time.monotonic())
            said.append(await self.say(next(self._numbers)))
        await self._wait(each.last for each in said)

    async def hurry(self, seconds: float) -> float:
        """Have each client say the next thing when it has its own back; return how many a second all have seen."""
        count, before = len(self._sockets), len(self.took)
        first = count * (next(self._numbers) // count + 1)
        begun = time.monotonic()

        async def speak(client: int) -> None:
            numbers = itertools.count(first + client, count)
            while time.monotonic() < begun + seconds:
                said = await self.say(next(numbers))
                await self._wait([said.own])

        await asyncio.gather(*map(speak, range(count)))
        await self._wait(each.last for each in tuple(self._said.values()))
        return (len(self.took) - before) / (time.monotonic() - begun)

    async def _wait(self, futures: Iterable[asyncio.Future[None]]) -> None:
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                await asyncio.gather(*futures)
        except TimeoutError:
            count = len(self._said)
            raise RuntimeError(
                f"{count} messages weren't seen by all; the newest frame: {self._newest_frame:.300}"
            ) from None


async def greet(socket: websockets.ClientConnection, greeting: str) -> None:
    """Say what a client of this server says first, and wait until it is answered in kind."""
    if greeting:
        await socket.send(greeting)
        async with asyncio.timeout(LIMIT_SECONDS):
            while not str(await socket.recv()).startswith(greeting):
                pass


async def talk(told: dict[str, Any]) -> dict[str, float]:
    """Do what is told; times in milliseconds. `busy` is how many percent of a core the clients used at full speed."""
    async with AsyncExitStack() as stack:
        sockets = []
        for cookie in told["cookies"]:
            connecting = websockets.connect(
                told["url"],
                additional_headers={"Cookie": cookie} if cookie else {},
                origin=told["origin"],
                compression=None,
                open_timeout=LIMIT_SECONDS,
                ping_interval=None,
            )
            sockets.append(await stack.enter_async_context(connecting))
            await greet(sockets[-1], told["greeting"])
        talk = Talk(sockets, told["message"])
        async with asyncio.TaskGroup() as group:
            listening = [group.create_task(talk.listen(client)) for client in range(len(sockets))]
            await talk.gather()
            await talk.keep_pace(told["rate"], told["seconds"])
            quantiles = statistics.quantiles(talk.took, n=100, method="inclusive")
            begun, used = time.monotonic(), time.process_time()
            rate = await talk.hurry(told["seconds"])
            busy = 100 * (time.process_time() - used) / (time.monotonic() - begun)
            for task in listening:
                task.cancel()
    return {"p50": 1e3 * quantiles[49], "p99": 1e3 * quantiles[98], "rate": rate, "busy": busy}


if __name__ == "__main__":
    machine.pin(os.getpid(), machine.CLIENT_CORE)
    print(json.dumps(uvloop.run(talk(json.load(sys.stdin)))))
