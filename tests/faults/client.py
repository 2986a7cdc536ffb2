"""A client that follows the protocol: it reconnects with its cursor, backs off, and obeys close codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import time
from typing import Any

import websockets

from tests.faults.checker import ClientLog, Receipt
from tests.faults.population import ROLES

STOP = {4400, 4401, 4403, 4413}
STOP_STATUS = {400, 401, 403, 413}
LONGEST_WAIT = 10  # between attempts, in seconds


class Client:
    """One member of one organisation; `log` is what it got, `codes` how its connections ended."""

    def __init__(
        self,
        port: int,
        org: str,
        user_id: int,
        user: str,
        session: str,
        chance: random.Random,
        role: str = "member",
    ) -> None:
        self.port = port
        self.org, self.user_id, self.user, self.role = org, user_id, user, role
        self.session, self._chance = session, chance
        self.log = ClientLog(user, org, "", types=ROLES[role])
        self.cursor = ""
        self.marks: set[str] = set()
        self.codes: list[int | str] = []
        self.resets: list[str] = []
        self.reset_at = -math.inf
        self.moves = 0
        self.heartbeat = 25.0
        self._mover: asyncio.Task[None] | None = None
        self.is_live = False
        self.is_stopped = False
        self.stopped_at = 0.0
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        self._task.cancel()
        results = await asyncio.gather(self._task, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]

    async def leave(self) -> None:
        """Close the connection and stay away until `come_back`."""
        await self.close()
        self.is_live = False

    def come_back(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        attempt = 0
        while not self.is_stopped:
            begin, moves = time.monotonic(), self.moves
            await self._connection()
            attempt = 0 if time.monotonic() - begin > 10 else attempt + 1
            if self.moves == moves:  # else it has waited its part of the window already
                await asyncio.sleep(self._chance.uniform(0, min(LONGEST_WAIT, 0.5 * 2**attempt)))

    async def _connection(self) -> None:
        url = f"ws://127.0.0.1:{self.port}/ws/orgs/{self.org}/notifications/"
        connecting = websockets.connect(
            url + (f"?since={self.cursor}" if self.cursor else ""),
            additional_headers={"Cookie": f"sessionid={self.session}"},
            origin=f"http://127.0.0.1:{self.port}",  # type: ignore[arg-type]
            compression=None,
            proxy=None,
            open_timeout=20,
            ping_interval=10,
            ping_timeout=10,
            close_timeout=2,
        )
        try:
            async with connecting as connection:
                pinging = asyncio.create_task(self._ping(connection))
                try:
                    async for text in connection:
                        self._take(json.loads(text), connection)
                finally:
                    self.is_live = False
                    pinging.cancel()
                    if self._mover is not None:
                        self._mover.cancel()
                        self._mover = None
            self._ended(connection.close_code or 1006)
        except websockets.ConnectionClosed as closed:
            self._ended(closed.rcvd.code if closed.rcvd else 1006)
        except websockets.InvalidStatus as refused:
            self.codes.append(f"HTTP {refused.response.status_code}")
            self.is_stopped = refused.response.status_code in STOP_STATUS
        except (OSError, websockets.InvalidHandshake, TimeoutError) as error:
            self.codes.append(type(error).__name__)

    def _ended(self, code: int) -> None:
        self.codes.append(code)
        if code in STOP:
            self.is_stopped, self.stopped_at = True, time.monotonic()

    async def _ping(self, connection: websockets.ClientConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.sleep(self._chance.uniform(0.8, 1) * self.heartbeat)
                await connection.send('{"type": "ping"}')

    async def _move(self, connection: websockets.ClientConnection, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._mover = None
        await connection.close()

    def _take(self, frame: dict[str, Any], connection: websockets.ClientConnection) -> None:
        now = time.monotonic()
        kind = frame["type"]
        if kind == "welcome":
            self.log.start = self.log.start or frame["cursor"]
            self.heartbeat = frame["heartbeat"]
        elif kind == "synced":
            self.is_live = True
        elif kind == "reset":
            self.resets.append(frame["reason"])
            self.reset_at = now
            self.log.receipts.append(Receipt(None, frame["cursor"], now))
        elif kind == "going_away":
            self.moves += 1
            seconds = (frame["retry_after_ms"] + self._chance.uniform(0, frame["window_ms"])) / 1000
            self._mover = asyncio.create_task(self._move(connection, seconds))
        for event in frame["events"] if kind == "batch" else [frame] if "created_at" in frame else []:
            if event["type"] in {"chat.joined", "chat.left"}:
                continue  # what comes of a membership that is removed
            mark = event.get("mark") or event.get("body", "unmarked")
            self.marks.add(mark)
            self.log.receipts.append(Receipt(mark, event["cursor"], now, event.get("at")))
        self.cursor = frame.get("cursor", self.cursor)
