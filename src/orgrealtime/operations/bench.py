"""Trying out a deployment from outside, as its clients see it: what `orgrealtime_bench` measures."""

from __future__ import annotations

import asyncio
import itertools
import json
import secrets
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import websockets
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_backends
from django.core.management.base import CommandError
from django.db import models

from orgrealtime.publishers import apublish

STARTING_AT_ONCE = 50
OPEN_SECONDS = 30.0
PATIENCE_SECONDS = 15.0  # longer than a poll: events of which a ring was lost are found then

Progress = Callable[[str, int, int], None]


@dataclass
class Report:
    """What a benchmark found; times in seconds."""

    wanted: int
    opened: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    opening: float = 0.0
    published: int = 0
    publishing: float = 0.0
    latencies: list[float] = field(default_factory=list)
    doubled: int = 0
    disordered: int = 0
    closed: Counter[str] = field(default_factory=Counter)

    @property
    def expected(self) -> int:
        """How many deliveries there are if each connection gets each event once."""
        return self.opened * self.published

    @property
    def lost(self) -> int:
        """How many of them didn't come in time."""
        return self.expected - len(self.latencies)

    @property
    def is_flawless(self) -> bool:
        """Whether every connection was let in, and got every event once and in order."""
        return self.opened == self.wanted and not (self.lost or self.doubled or self.disordered)

    def percentile(self, part: float) -> float:
        """The latency that so large a part of the deliveries doesn't exceed."""
        ordered = sorted(self.latencies)
        return ordered[round(part * (len(ordered) - 1))] if ordered else 0.0

    def rows(self) -> Iterator[tuple[str, str]]:
        """The lines of a table."""
        rate = self.opened / self.opening if self.opening else 0.0
        yield "connections", f"{self.opened} of {self.wanted} in {self.opening:.2f} s, {rate:.0f}/s"
        for reason, count in sorted(self.refused.items()):
            yield "  refused", f"{count} with {reason}"
        for reason, count in sorted(self.closed.items()):
            yield "  closed early", f"{count} with {reason}"
        pace = self.published / self.publishing if self.publishing else 0.0
        yield "events", f"{self.published} published, {pace:.1f}/s"
        yield "deliveries", f"{len(self.latencies)} of {self.expected}"
        yield "lost, doubled, out of order", f"{self.lost}, {self.doubled}, {self.disordered}"
        p50, p99, most = (self.percentile(part) * 1e3 for part in (0.5, 0.99, 1.0))
        mean = statistics.fmean(self.latencies) * 1e3 if self.latencies else 0.0
        yield (
            "publish to client",
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, longest {most:.1f} ms, mean {mean:.1f} ms",
        )


@contextmanager
def sessions(users: Sequence[Any], seconds: float) -> Iterator[list[str]]:
    """Log these users in while the block lasts, at most so long; give the cookie of each.

    Raises CommandError for a user whom no authentication backend lets in.
    """
    store = import_module(settings.SESSION_ENGINE).SessionStore
    cookies = []
    with ExitStack() as opened:
        for user in users:
            session = store()
            session[SESSION_KEY] = user._meta.pk.value_to_string(user)
            session[BACKEND_SESSION_KEY] = _backend_of(user)
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.set_expiry(round(seconds))
            session.save()
            opened.callback(session.delete)
            cookies.append(f"{settings.SESSION_COOKIE_NAME}={session.session_key}")
        yield cookies


def _backend_of(user: Any) -> str:
    for path, backend in zip(settings.AUTHENTICATION_BACKENDS, get_backends(), strict=True):
        get_user = getattr(backend, "get_user", None)
        if get_user is not None and get_user(user.pk) is not None:
            return path
    raise CommandError(f"no authentication backend gives the user {user.get_username()}")


class Benchmark:
    """Opens connections to `url` with these cookies by turns, and publishes to `organization`, for these users only."""

    def __init__(
        self, url: str, cookies: Sequence[str], organization: models.Model, users: Sequence[Any], type: str
    ) -> None:
        self._url = url
        self._cookies = cookies
        self._organization = organization
        self._users = users
        self._type = type
        self._run = secrets.token_hex(8)
        self._begun: list[float] = []
        self._heard = asyncio.Event()

    async def run(self, connections: int, events: int, rate: float, progress: Progress) -> Report:
        """Open so many connections, publish so many events at `rate` per second, and report."""
        self._report = Report(wanted=connections)
        readers = await self._open(connections, progress)
        try:
            await self._publish(events, rate, progress)
            await self._wait(progress)
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
        return self._report

    # -------------------------------------------------------------------------------------------------- clients

    async def _open(self, connections: int, progress: Progress) -> list[asyncio.Task[None]]:
        begun = time.perf_counter()
        turns = asyncio.Semaphore(STARTING_AT_ONCE)
        cookies = itertools.islice(itertools.cycle(self._cookies), connections)
        ready = [asyncio.get_running_loop().create_future() for _ in range(connections)]
        readers = [
            asyncio.create_task(self._follow(cookie, turns, one))
            for cookie, one in zip(cookies, ready, strict=True)
        ]
        for done, one in enumerate(asyncio.as_completed(ready), 1):
            await one
            progress("connecting", done, connections)
        self._report.opening = time.perf_counter() - begun
        return readers

    async def _follow(self, cookie: str, turns: asyncio.Semaphore, ready: asyncio.Future[None]) -> None:
        try:
            async with turns:
                connection = await self._connect(cookie)
        except Exception as error:
            self._report.refused[_reason(error)] += 1
            return
        finally:
            if not ready.done():
                ready.set_result(None)
        self._report.opened += 1
        async with connection:
            await self._read(connection)

    async def _connect(self, cookie: str) -> websockets.ClientConnection:
        parts = urlsplit(self._url)
        origin = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}"
        async with asyncio.timeout(OPEN_SECONDS):
            connection = await websockets.connect(
                self._url,
                additional_headers={"Cookie": cookie},
                origin=origin,  # type: ignore[arg-type]
                compression=None,
                open_timeout=None,
            )
            try:
                while json.loads(await connection.recv())["type"] != "synced":
                    pass
            except BaseException:
                connection.transport.abort()
                raise
        return connection

    async def _read(self, connection: websockets.ClientConnection) -> None:
        newest = -1
        try:
            async for text in connection:
                now = time.perf_counter()
                frame = json.loads(text)
                for event in frame["events"] if frame["type"] == "batch" else [frame]:
                    if event.get("run") == self._run:
                        newest = self._take(event["number"], newest, now)
        except websockets.ConnectionClosed:
            pass
        self._report.closed[str(connection.close_code)] += 1

    def _take(self, number: int, newest: int, now: float) -> int:
        if number == newest:
            self._report.doubled += 1
        elif number < newest:
            self._report.disordered += 1
        else:
            self._report.latencies.append(now - self._begun[number])
            self._heard.set()
        return max(newest, number)

    # ------------------------------------------------------------------------------------------------ publishing

    async def _publish(self, events: int, rate: float, progress: Progress) -> None:
        begun = time.perf_counter()
        for number in range(events):
            await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            self._begun.append(time.perf_counter())
            await apublish(
                self._organization, self._type, {"run": self._run, "number": number}, to=self._users
            )
            self._report.published += 1
            progress("publishing", number + 1, events)
        self._report.publishing = time.perf_counter() - begun

    async def _wait(self, progress: Progress) -> None:
        report = self._report
        try:
            while report.lost > 0:
                progress("waiting", len(report.latencies), report.expected)
                self._heard.clear()
                async with asyncio.timeout(PATIENCE_SECONDS):  # from one delivery to the next
                    await self._heard.wait()
        except TimeoutError:
            pass


def _reason(error: Exception) -> str:
    if isinstance(error, websockets.InvalidStatus):
        return f"HTTP {error.response.status_code}"
    if isinstance(error, websockets.ConnectionClosed):
        return str(error.rcvd.code if error.rcvd else 1006)
    return type(error).__name__
