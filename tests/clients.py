"""Browsers for tests: a logged-in session over HTTP, and a WebSocket that keeps what it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import httpx
import websockets

PATIENCE = 20.0


class Browser:
    """A user's session at a site: `async with log_in("http://…", "alice") as alice:`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=PATIENCE)

    async def post(self, path: str, **fields: str) -> httpx.Response:
        token = self.http.cookies["csrftoken"]
        headers = {"Origin": self.url, "X-CSRFToken": token, "Referer": f"{self.url}/"}
        return await self.http.post(path, data=fields, headers=headers)

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())

    @asynccontextmanager
    async def socket(
        self, org: str = "acme", query: str = "", origin: str | None = None
    ) -> AsyncIterator[Socket]:
        """A connection to an organisation's notifications."""
        url = f"{self.url.replace('http', 'ws', 1)}/ws/orgs/{org}/notifications/{query and '?'}{query}"
        connecting = websockets.connect(
            url,
            additional_headers={"Cookie": self.cookie},
            origin=origin or self.url,
            compression=None,  # type: ignore[arg-type]
        )
        async with connecting as connection:
            socket = Socket(connection)
            try:
                yield socket
            finally:
                await socket.close()


@asynccontextmanager
async def log_in(url: str, username: str, password: str = "demo") -> AsyncIterator[Browser]:
    """A browser in which this user has logged in."""
    browser = Browser(url)
    async with browser.http:
        await browser.http.get("/accounts/login/")
        answer = await browser.post("/accounts/login/", username=username, password=password)
        assert answer.status_code == 302, answer.text
        yield browser


class Socket:
    """Reads all the time and keeps the frames; `events` are the stream's events, batches taken apart."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection
        self.frames: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._news = asyncio.Event()
        self._reader = asyncio.create_task(self._read())

    @property
    def cursor(self) -> str:
        return next(frame["cursor"] for frame in reversed(self.frames) if "cursor" in frame)

    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    async def send(self, frame: dict[str, Any]) -> None:
        await self.connection.send(json.dumps(frame))

    async def until(self, condition: Callable[[Socket], Any], seconds: float = PATIENCE) -> Self:
        """Wait until the condition holds for this socket."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                self._news.clear()
                await self._news.wait()
        return self

    async def synced(self) -> Self:
        return await self.until(lambda socket: "synced" in socket.types())

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            async for text in self.connection:
                frame = json.loads(text)
                self.frames.append(frame)
                if frame["type"] == "batch":
                    self.events += frame["events"]
                elif "created_at" in frame:
                    self.events.append(frame)
                self._news.set()
        except websockets.ConnectionClosed:
            pass
        self.close_code = self.connection.close_code
        self._news.set()
