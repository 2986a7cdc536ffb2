"""Real servers under random and mutated frames and handshakes: they live on and serve their other sockets.

Seeded: the same bytes each time. `FUZZ_FRAMES` and `FUZZ_HANDSHAKES` give other numbers than the default,
`FUZZ_SEED` another seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from tests.clients import log_in
from tests.integration import raw
from tests.integration.lookout import lookout
from tests.servers import Site

FRAMES = int(os.environ.get("FUZZ_FRAMES", "5000"))
HANDSHAKES = int(os.environ.get("FUZZ_HANDSHAKES", "500"))
SEED = int(os.environ.get("FUZZ_SEED", "4711"))
FRAMES_EACH = 10
AT_ONCE = 8
ANSWER_SECONDS = 0.2

MESSAGES = [
    json.dumps(message).encode()
    for message in (
        {"type": "ping"},
        {"type": "ack", "cursor": "00000000.1"},
        {"type": "ack", "cursor": None},
        {"type": "ping", "org": "globex", "more": [1, 2.5, True, None, {"deep": ["ä", "\u2028", "😀"]}]},
        {"type": "websocket.disconnect", "code": 1000},
        {"type": "orgrealtime.ring", "organization": "1"},
    )
]
TOKENS = [
    b"null", b"1e400", b"-0", b"NaN", b"9" * 400, b"[" * 600, b'{"type":', b'"\\ud800"', b"\x00", b"\xff\xfe", b"{}",
    b'"type"', b'"__class__"', b"\xed\xa0\x80", b"\r\n\r\n",
]  # fmt: skip
HANDSHAKE_TOKENS = [
    b"\r\n", b"\r\n\r\n", b"\x00", b":", b" ", b"GET", b"POST", b"HTTP/1.0", b"HTTP/9.9", b"%00", b"%ff", b"../",
    b"//", b"?", b"?since=", b"?last=-1", b"&since=0badc0de.1", b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Origin: null\r\n", b"Cookie: sessionid=x\r\n", b"Host: evil.example\r\n",
    b"Sec-WebSocket-Protocol: orgrealtime.v1, \xff\r\n", b"\xf0\x9f\x98\x80", b"x" * 3000,
]  # fmt: skip


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["uvicorn", "granian"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    # Without limits more of what is sent is looked at.
    with Site(server=request.param, environ={"LIMITS": "0"}) as site:
        yield site


def mutated(rng: random.Random, data: bytes, tokens: list[bytes]) -> bytes:
    """The data with up to four changes: a byte, a piece left out or doubled, a token put in, an end cut off."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(data))
        to = min(len(data), at + rng.randint(1, 12))
        match rng.randrange(5):
            case 0:
                data = data[:at] + rng.randbytes(1) + data[at + 1 :]
            case 1:
                data = data[:at] + data[to:]
            case 2:
                data = data[:to] + data[at:]
            case 3:
                data = data[:at] + rng.choice(tokens) + data[at:]
            case _ if rng.random() < 0.2:
                data = data[:at]
    return data


def random_frame(rng: random.Random) -> bytes:
    """A message that the server reads, a control frame, a fragment, or a frame that is none."""
    text = mutated(rng, rng.choice(MESSAGES), TOKENS)
    match rng.randrange(10):
        case 0 | 1 | 2 | 3 | 4:
            readable = text.decode(errors="replace").encode()
            return raw.frame(raw.TEXT, readable)
        case 5:
            return raw.frame(rng.choice([raw.PING, 0xA]), rng.randbytes(rng.choice([0, 5, 125])))
        case 6:
            return raw.frame(rng.choice([raw.TEXT, raw.CONTINUATION]), text, final=rng.random() < 0.5)
        case 7:
            return raw.frame(rng.choice([raw.BINARY, raw.CLOSE, raw.TEXT]), rng.randbytes(rng.randrange(200)))
        case 8:
            return mutated(rng, raw.frame(rng.randrange(16), text), TOKENS)
        case _:
            return rng.randbytes(rng.randrange(1, 300))


async def send_frames(site: Site, cookie: str, rng: random.Random) -> None:
    reader, writer = await raw.open_socket(site.url, cookie)
    with contextlib.suppress(ConnectionError):
        for _ in range(FRAMES_EACH):
            writer.write(random_frame(rng))
            await writer.drain()
            await asyncio.sleep(0)
        await read_some(reader)
    writer.transport.abort()


async def send_handshake(site: Site, cookie: str, rng: random.Random) -> None:
    reader, writer = await raw.connect(site.url)
    with contextlib.suppress(ConnectionError):
        writer.write(mutated(rng, raw.handshake(site.url, cookie), HANDSHAKE_TOKENS))
        await writer.drain()
        await read_some(reader)
    writer.transport.abort()


async def read_some(reader: asyncio.StreamReader) -> None:
    """What the server answers, if it does soon."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await reader.read(65_536)


async def repeat(count: int, attack: Callable[[random.Random], Coroutine[Any, Any, None]]) -> None:
    """Run attacks, some at a time, each with a generator of its own, so that order doesn't matter."""
    numbers = iter(range(count))

    async def run() -> None:
        for number in numbers:
            await attack(random.Random(f"{SEED} {number}"))

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(run())


def own_errors(site: Site) -> list[str]:
    """What the library has logged as an error."""
    log = (site.folder / "log").read_text(errors="replace")
    return re.findall(r"^.* ERROR orgrealtime.*$|^.*Task exception was never.*$", log, re.MULTILINE)


async def test_server_lives_on_under_random_and_mutated_frames(site: Site) -> None:
    async with lookout(site) as watch, log_in(site, "alice") as alice:
        await repeat(FRAMES // FRAMES_EACH, lambda rng: send_frames(site, alice.cookie, rng))
        assert await watch.is_alive()
    assert own_errors(site) == []


async def test_server_lives_on_under_mutated_handshakes(site: Site) -> None:
    async with lookout(site) as watch, log_in(site, "alice") as alice:
        await repeat(HANDSHAKES, lambda rng: send_handshake(site, alice.cookie, rng))
        assert await watch.is_alive()
    assert own_errors(site) == []
