"""Many WebSockets in one process: `python -m benchmarks.crowd URL COUNT COOKIE`.

Prints `ready` once all are connected. Then, for each number read from standard input, waits until every socket has had
so many more events (recognised by one `^` each) and prints the seconds that took.
"""

from __future__ import annotations

import asyncio
import sys
import time
from urllib.parse import urlsplit

MARK = b"^"


class Crowd(asyncio.Protocol):
    """One socket of the crowd; `pending` is shared: how many events the whole crowd still waits for."""

    pending = 0
    done: asyncio.Event

    def __init__(self, request: bytes, opened: asyncio.Future[None]) -> None:
        self.request = request
        self.opened = opened
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.opened.done():
            self.head += data
            if b"\r\n\r\n" not in self.head:
                return
            if b" 101 " not in self.head.partition(b"\r\n")[0]:
                self.opened.set_exception(ConnectionError(self.head[:200].decode("latin-1")))
                return
            self.opened.set_result(None)
        Crowd.pending -= data.count(MARK)
        if Crowd.pending <= 0:
            Crowd.done.set()


async def main(url: str, count: int, cookie: str) -> None:
    loop = asyncio.get_running_loop()
    Crowd.done = asyncio.Event()
    parts = urlsplit(url)
    headers = [
        f"GET {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Origin: http://{parts.netloc}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *([f"Cookie: {cookie}"] if cookie else []),
    ]
    request = "\r\n".join([*headers, "", ""]).encode()
    for _ in range(count):
        opened = loop.create_future()
        await loop.create_connection(lambda future=opened: Crowd(request, future), parts.hostname, parts.port)
        await opened
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        begin = time.perf_counter()
        Crowd.pending += int(line) * count
        Crowd.done.clear()
        async with asyncio.timeout(300):
            while Crowd.pending > 0:
                await Crowd.done.wait()
                Crowd.done.clear()
        print(time.perf_counter() - begin, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
