"""Browsers for tests: a logged-in session over HTTP, and a WebSocket that keeps what it is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import websockets

from tests.servers import Site
from tests.waiting import LIMIT_SECONDS, limit, text_of


class Browser:
    """A user's session at a site: `async with log_in(site, "alice") as alice:`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.AsyncClient(base_url=url, timeout=LIMIT_SECONDS)

    async def post(self, path: str, **fields: str) -> httpx.Response:
        return await self.http.post(path, data=fields, headers=self._headers())

    async def post_json(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return await self.http.post(path, json=body, headers=self._headers())

    def _headers(self) -> dict[str, str]:
        token = self.http.cookies["csrftoken"]
        return {"Origin": self.url, "X-CSRFToken": token, "Referer": f"{self.url}/"}

    @property
    def cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())

    @asynccontextmanager
    async def socket(
        self, org: str = "acme", query: str = "", origin: str | None = None, room: str = ""
    ) -> AsyncIterator[Socket]:
        """A connection to an organisation's notifications, or to one of its rooms."""
        path = f"rooms/{room}" if room else "notifications"
        url = f"{self.url.replace('http', 'ws', 1)}/ws/orgs/{org}/{path}/{query and '?'}{query}"
        connecting = websockets.connect(
            url,
            additional_headers={"Cookie": self.cookie},
            origin=origin or self.url,
            compression=None,  # type: ignore[arg-type]
            open_timeout=LIMIT_SECONDS,
            ping_interval=None,  # whoever is slow here must not close what the server keeps open
        )
        async with connecting as connection:
            socket = Socket(connection)
            try:
                yield socket
            finally:
                await socket.close()


LOG_IN = """
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username={username!r}))
print(client.cookies["sessionid"].value, end="")
"""


@asynccontextmanager
async def log_in(site: Site, username: str) -> AsyncIterator[Browser]:
    """A browser in which this user has logged in; the password, which takes long to check, isn't asked for."""
    browser = Browser(site.url)
    async with browser.http:
        session = await asyncio.to_thread(site.shell.run, LOG_IN.format(username=username))
        browser.http.cookies.set("sessionid", session, domain=urlsplit(site.url).hostname or "")
        await browser.http.get("/accounts/login/")  # and have a CSRF token
        yield browser


@asynccontextmanager
async def sign_in(url: str, username: str, password: str = "demo") -> AsyncIterator[Browser]:
    """A browser in which this user has filled in the form."""
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

    async def until(self, condition: Callable[[Socket], Any], what: str = "") -> Self:
        """Wait until the condition holds for this socket."""
        async with limit(what or text_of(condition), seen=self):
            while not condition(self):
                self._news.clear()
                await self._news.wait()
        return self

    async def closed(self) -> int:
        """Wait until the server has closed the connection; return its code."""
        await self.until(lambda one: one.close_code is not None, "the socket is closed")
        assert self.close_code is not None
        return self.close_code

    def __repr__(self) -> str:
        newest = ", ".join(json.dumps(frame)[:200] for frame in self.frames[-5:])
        return f"<Socket: {len(self.frames)} frames, the newest {newest}; closed with {self.close_code}>"

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
