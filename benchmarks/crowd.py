"""Many WebSocket clients in one process of C: a client must cost less than the server that it measures."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine

SOURCE = Path(__file__).with_suffix(".c")
EXPECT_SECONDS = 60.0


class Connected(NamedTuple):
    """How a crowd came in; times of single clients in milliseconds."""

    connected: int
    refused: int
    seconds: float
    p50: float
    p99: float


class Heard(NamedTuple):
    """What a crowd got; times from publishing to arrival in milliseconds, `last` the longest."""

    deliveries: int
    lost: int
    gone: int
    seconds: float
    p50: float
    p99: float
    last: float


class Crowd:
    """Clients that are told what to do."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def connect(self, count: int, *, window: int = 50, marks: int = 0, buffer: int = 0) -> Connected:
        """Open sockets, `window` at once; each is in when it has had `marks` events.

        Raises RuntimeError if any isn't let in.
        """
        come = Connected(**self._ask(f"connect {count} {window} {marks} {buffer}"))
        if come.refused:
            raise RuntimeError(f"{come.refused} of {count} clients were not let in")
        return come

    def expect(self, marks: int, seconds: float = EXPECT_SECONDS) -> Heard:
        """Wait until all that are awake have had so many events more."""
        return Heard(**self._ask(f"expect {marks} {seconds}"))

    def watch(self, seconds: float) -> Heard:
        """Read for so long."""
        return Heard(**self._ask(f"watch {seconds}"))

    def sleep(self, count: int) -> None:
        """Have the clients that came last read nothing more."""
        self._ask(f"sleep {count}")

    def tell(self, command: str) -> None:
        """Give a command whose answer is fetched later, with `answer`."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The answer to what was told."""
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def _ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.answer()


@functools.cache
def program() -> Path:
    """The program, built; raises RuntimeError where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError(
            "The clients are written in C: put a compiler on PATH as `cc` (Debian: build-essential)."
        )
    folder = Path(tempfile.mkdtemp(prefix="orgrealtime-crowd-"))
    subprocess.run([compiler, "-O2", "-o", folder / "crowd", SOURCE], check=True)
    return folder / "crowd"


@contextmanager
def crowd(port: int, request: bytes, greeting: str = "", orgs: int = 1) -> Iterator[Crowd]:
    """Clients that come with this handshake, on a core of their own; they go at the end.

    `###` in the request becomes the client's number modulo `orgs`.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(request)
        file.flush()
        command = [str(program()), "127.0.0.1", str(port), file.name, greeting, str(orgs)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            machine.pin(process.pid, machine.CLIENT_CORE)
            try:
                yield Crowd(process)
            finally:
                process.kill()


def handshake(port: int, path: str, cookie: str = "") -> bytes:
    """The request by which a browser opens a WebSocket (RFC 6455, section 4.1)."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Origin: http://127.0.0.1:{port}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Cookie: {cookie}"] if cookie else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()
