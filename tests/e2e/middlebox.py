"""What stands in some networks between a browser and a site, and lets not everything through."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
NOBODY_THERE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Middlebox:
    """An HTTP proxy on a port of its own that refuses `Upgrade`, and keeps what streams until it has all of it."""

    def __init__(self, target: int, *, buffers: bool) -> None:
        self.refused = 0
        self._target = target
        self._down_until = 0.0
        self._next: tuple[int, float] | None = None
        box = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                box._pass_on(self.request, buffers=buffers)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[None]:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()

    def hand_over(self, target: int, *, seconds: float) -> None:
        """Once the site has ended a stream: answer 502 for some seconds, then be in front of another site."""
        self._next = (target, seconds)

    def _pass_on(self, client: socket.socket, *, buffers: bool) -> None:
        head = _read_head(client)
        if re.search(rb"^upgrade:", head, re.IGNORECASE | re.MULTILINE):
            self.refused += 1
            client.sendall(REFUSED)
            return
        is_kept = buffers and b"/stream/" in head.split(b"\r\n", 1)[0]
        if time.monotonic() < self._down_until:
            client.sendall(NOBODY_THERE)
            return
        with socket.create_connection(("127.0.0.1", self._target)) as site:
            site.sendall(re.sub(rb"(?im)^connection:.*\r\n", b"Connection: close\r\n", head))
            kept = b""
            while part := site.recv(65_536):
                if is_kept:
                    kept += part
                else:
                    client.sendall(part)
            client.sendall(kept)
        if self._next is not None and b"/stream/" in head.split(b"\r\n", 1)[0]:
            self._target, seconds = self._next
            self._down_until = time.monotonic() + seconds


def _read_head(client: socket.socket) -> bytes:
    # With the body: what browsers send here is short.
    head = b""
    while b"\r\n\r\n" not in head and (part := client.recv(65_536)):
        head += part
    length = re.search(rb"(?im)^content-length: (\d+)", head)
    missing = int(length[1]) - len(head.partition(b"\r\n\r\n")[2]) if length else 0
    while missing > 0:
        part = client.recv(missing)
        head, missing = head + part, missing - len(part)
    return head
