"""A TCP proxy that makes a link bad: slow, pieced, silent, reset or closed on one side."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Self

Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Proxy:
    """Passes bytes between a port of its own and another port of 127.0.0.1, as its attributes say.

    `latency` and `jitter` are seconds per piece, `piece` is bytes per piece, `bandwidth` is bytes per second for each
    direction of a connection. None or 0: not at all.
    """

    def __init__(self, target: int, chance: random.Random | None = None) -> None:
        self.target = target
        self.port = 0
        self.latency = 0.0
        self.jitter = 0.0
        self.piece: int | None = None
        self.bandwidth: int | None = None
        self._chance = chance or random.Random()
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._pairs: set[Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @asynccontextmanager
    async def black_hole(self) -> AsyncIterator[None]:
        """No byte passes and nobody is told. What was sent meanwhile comes afterwards, as TCP would send it again."""
        is_open = self._is_open
        is_open.clear()
        try:
            yield
        finally:
            is_open.set()

    def forget(self) -> list[Pair]:
        """Let no byte pass by the connections that there are, for ever and telling nobody, as a firewall may do.

        Returns them: `give_up` lets the target know.
        """
        self._is_open.clear()
        self._is_open = asyncio.Event()
        self._is_open.set()
        return list(self._pairs)

    def give_up(self, forgotten: list[Pair]) -> None:
        """End what was forgotten at the target's side, as its keepalive does; the other side isn't told."""
        for _, upstream in forgotten:
            upstream.transport.abort()

    @asynccontextmanager
    async def shaped(
        self, *, latency: float = 0, jitter: float = 0, piece: int | None = None, bandwidth: int | None = None
    ) -> AsyncIterator[None]:
        before = self.latency, self.jitter, self.piece, self.bandwidth
        self.latency, self.jitter, self.piece, self.bandwidth = latency, jitter, piece, bandwidth
        try:
            yield
        finally:
            self.latency, self.jitter, self.piece, self.bandwidth = before

    def reset(self) -> int:
        """End all connections with RST on both sides, in the midst of whatever they say; return how many."""
        pairs = list(self._pairs)
        for writer in [writer for pair in pairs for writer in pair]:
            with contextlib.suppress(OSError):
                sock = writer.get_extra_info("socket")
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(pairs)

    def half_close(self) -> None:
        """Tell the target that the clients have nothing more to say; the other direction stays open."""
        for _, upstream in self._pairs:
            upstream.write_eof()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self._connect(reader, writer)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection("127.0.0.1", self.target)
        pair = writer, upstream
        self._pairs.add(pair)
        try:
            is_open = self._is_open
            await asyncio.gather(
                self._pump(reader, upstream, is_open), self._pump(upstream_reader, writer, is_open)
            )
        finally:
            self._pairs.discard(pair)
            for each in pair:
                each.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_open: asyncio.Event
    ) -> None:
        while data := await reader.read(65_536):
            for part in self._pieces(data):
                await is_open.wait()
                await self._wait(len(part))
                writer.write(part)
                await writer.drain()
        await is_open.wait()
        writer.write_eof()

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        size = self.piece or len(data)
        return (data[begin : begin + size] for begin in range(0, len(data), size))

    async def _wait(self, size: int) -> None:
        seconds = self.latency + self._chance.uniform(-self.jitter, self.jitter)
        seconds += size / self.bandwidth if self.bandwidth else 0
        if seconds > 0:
            await asyncio.sleep(seconds)
