"""TCP connections to the site: those that it considers open, and some that don't do what a client does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests import servers
from tests.faults.client import Client

ESTABLISHED = "01"


def peers_of(site: servers.Site) -> set[int]:
    """The ports at the other end of the TCP connections that the site's workers consider open."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    mine = f":{site.port:04X}"
    open_ones = [line for line in lines if line[1].endswith(mine) and line[3] == ESTABLISHED]
    return {int(line[2].rpartition(":")[2], 16) for line in open_ones}


@asynccontextmanager
async def deaf_socket(site: servers.Site, client: Client, *, bytes_per_second: int = 0) -> AsyncIterator[int]:
    """Another WebSocket of a client's user, that reads nothing, or next to nothing; gives its port."""
    host = f"127.0.0.1:{site.port}"
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", site.port))
        sock.sendall(
            f"GET /ws/orgs/{client.org}/notifications/ HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
            f"Cookie: sessionid={client.session}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        sock.setblocking(False)
        reading = asyncio.create_task(_read_slowly(sock, bytes_per_second))
        try:
            yield sock.getsockname()[1]
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _read_slowly(sock: socket.socket, bytes_per_second: int) -> None:
    while bytes_per_second:
        await asyncio.get_running_loop().sock_recv(sock, bytes_per_second)
        await asyncio.sleep(1)
