"""Measure a running deployment as its clients see it."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
import threading
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import models

from orgrealtime.adapters import get_adapter
from orgrealtime.admission import sessions
from orgrealtime.errors import EventTypeError
from orgrealtime.management.arguments import find_organization, find_users

BAR = 30
SESSION_SECONDS = 600
SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ArgumentTypeError(f"a whole number above 0, not {text}")
    return value


def _rate(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"a number above 0, not {text}")
    return value


@contextmanager
def _exit_on_termination() -> Iterator[None]:
    """Have SIGTERM end the block as an exception does, so that the sessions end with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Command(BaseCommand):
    """`orgrealtime_bench <url> <org_slug> --user alice`: connects, publishes, and prints a table."""

    help = (
        "Open connections to a running server, publish events that only the given users get, and tell how fast all "
        "came in and how late the events arrived."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("url", help="of the server, as https://example.com")
        parser.add_argument("org_slug")
        parser.add_argument(
            "--user",
            action="append",
            required=True,
            metavar="USERNAME",
            help="who connects; several by turns",
        )
        parser.add_argument("--connections", type=_count, default=50, help="default: 50")
        parser.add_argument("--events", type=_count, default=100, help="default: 100")
        parser.add_argument("--rate", type=_rate, default=10.0, help="events per second (default: 10)")
        parser.add_argument("--type", default="bench", help="type of the events (default: bench)")
        parser.add_argument(
            "--path", default="/ws/orgs/{slug}/notifications/", help="of the WebSocket, with {slug}"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Measure, and fail if an event was lost, came twice or out of order, or a connection was refused."""
        try:
            from orgrealtime.operations import bench
        except ModuleNotFoundError as error:
            if error.name != "websockets":
                raise
            raise CommandError(
                "this command needs a WebSocket client: pip install orgrealtime[bench]"
            ) from None
        organization = find_organization(options["org_slug"])
        users = self._users(options["user"], organization)
        if reason := sessions.why_there_are_none():
            raise CommandError(f"this command logs users in by sessions: {reason}")
        seconds = SESSION_SECONDS + options["events"] / options["rate"]
        with _exit_on_termination(), bench.sessions(users, seconds) as cookies:
            measuring = bench.Benchmark(
                self._socket_url(options), cookies, organization, users, options["type"]
            )
            try:
                report = asyncio.run(
                    measuring.run(
                        options["connections"], options["events"], options["rate"], self._show_progress
                    )
                )
            except EventTypeError as error:
                raise CommandError(str(error)) from None
        width = max(len(name) for name, _ in report.rows())
        for name, value in report.rows():
            self.stdout.write(f"{name:<{width}}  {value}")
        if not report.is_flawless:
            raise CommandError("not every connection was let in and got every event once and in order")

    def _users(self, names: list[str], organization: models.Model) -> list[Any]:
        users = find_users(names)
        members = get_adapter().member_ids(organization)
        if strangers := [user.get_username() for user in users if user.pk not in members]:
            raise CommandError(f"no member of this organisation: {', '.join(strangers)}")
        return users

    def _socket_url(self, options: dict[str, Any]) -> str:
        scheme, mark, rest = options["url"].partition("://")
        if not mark or scheme not in SCHEMES:
            raise CommandError(f"the URL begins with http:// or https://, not {options['url']!r}")
        path = options["path"].replace("{slug}", options["org_slug"])
        return f"{SCHEMES[scheme]}://{rest.rstrip('/')}{path}"

    def _show_progress(self, what: str, done: int, of: int) -> None:
        if not sys.stderr.isatty():
            return
        filled = BAR * done // max(1, of)
        end = "\n" if done >= of else ""
        self.stderr.write(f"\r{what:<10} [{'#' * filled:<{BAR}}] {done}/{of}{end}", ending="")
