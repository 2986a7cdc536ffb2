"""Ready frames are what a WebSocket library would have written."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from orgrealtime.delivery.transport import (
    FRAMES,
    LOOK_SECONDS,
    TRANSPORT,
    Transport,
    frame_writer,
    text_frame,
    transport_of,
    with_transport,
)
from tests.virtual import virtual_loop, virtually


@given(st.text())
@example("x" * 125)
@example("x" * 126)
@example("x" * 65_535)
@example("x" * 65_536)
@example("é" * 63)
def test_ready_frame_is_a_whole_unmasked_text_frame(text: str) -> None:
    assert text_frame(text) == Frame(Opcode.TEXT, text.encode()).serialize(mask=False)


@pytest.mark.parametrize(
    "scope", [{}, {"extensions": None}, {"extensions": {}}, {"extensions": {FRAMES: {}}}]
)
def test_server_without_the_extension_takes_no_ready_frames(scope: dict[str, object]) -> None:
    assert frame_writer(scope) is None


# ---------------------------------------------------------------------------------------- the connection beneath


class Wire:
    """What asyncio calls a transport."""

    def __init__(self, unsent: int = 0) -> None:
        self.unsent = unsent
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> None:
        return None


class Protocol:
    """What uvicorn has for one WebSocket; `run_asgi` is the name of its method that calls the application."""

    def __init__(self) -> None:
        self.transport = Wire()
        self.connections = {self}

    async def send(self, message: Any) -> None:
        pass

    async def run_asgi(self, application: Any, scope: dict[str, Any]) -> Transport | None:
        found: Transport | None = await application(scope, self.send)
        return found


class Cycle(Protocol):
    """What uvicorn has for one HTTP request."""

    def __init__(self) -> None:
        self.transport = Wire(unsent=1)
        self.disconnected = False


async def bare(scope: dict[str, Any], send: Any) -> Transport | None:
    return transport_of(scope, send)


async def wrapped(scope: dict[str, Any], send: Any) -> Transport | None:
    async def wrapped_send(message: Any) -> None:
        await send(message)

    return await bare({**scope}, wrapped_send)


async def wrapped_again(scope: dict[str, Any], send: Any) -> Transport | None:
    return await wrapped(scope, lambda message: send(message))


@pytest.mark.parametrize("application", [bare, wrapped, wrapped_again])
async def test_transport_of_uvicorn_is_found_whatever_wraps_send(application: Any) -> None:
    server, other = Protocol(), Protocol()
    found = await server.run_asgi(application, {"extensions": {}})
    assert found is not None
    assert not found.is_gone()
    server.connections.clear()
    assert found.is_gone()
    found.abort()
    assert (server.transport.is_aborted, other.transport.is_aborted) == (True, False)


async def test_http_connection_is_gone_when_all_has_been_sent_or_it_is_lost() -> None:
    server = Cycle()
    found = await server.run_asgi(wrapped, {})
    assert found is not None
    assert not found.is_gone()
    server.transport.unsent = 0
    assert found.is_gone()
    server.transport.unsent, server.disconnected = 1, True
    assert found.is_gone()


@pytest.mark.parametrize("application", [bare, wrapped])
async def test_nothing_of_a_connection_waits_for_the_garbage_collector(application: Any) -> None:
    server = Cycle()
    gone = weakref.ref(server)
    gc.collect()
    gc.disable()
    try:
        await server.run_asgi(application, {})
        del server
        assert gone() is None
    finally:
        gc.enable()


async def test_server_that_isn_t_known_has_no_transport() -> None:
    assert transport_of({}, lambda message: None) is None
    assert transport_of({"extensions": None}) is None
    scope = {"type": "http"}
    assert with_transport(scope, None) is scope


async def test_extension_of_the_scope_counts_more_than_what_is_found() -> None:
    own = Wire()
    extension = {"abort": own.abort, "is_gone": lambda: False}
    server = Protocol()
    found = await server.run_asgi(wrapped, {"extensions": {TRANSPORT: extension}})
    assert found is not None
    found.abort()
    found.notice_silence(30)  # which it knows nothing about
    assert (own.is_aborted, server.transport.is_aborted) == (True, False)


@virtually
async def test_connection_that_goes_by_itself_isn_t_dropped() -> None:
    own = Wire()
    begun = virtual_loop().time()
    transport = Transport({"abort": own.abort, "is_gone": lambda: virtual_loop().time() >= begun + 3})
    await transport.until_gone(5)
    assert not own.is_aborted
    assert 3 <= virtual_loop().time() - begun <= 3 + 2 * LOOK_SECONDS


@virtually
async def test_connection_that_doesn_t_go_is_dropped() -> None:
    own = Wire()
    begun = virtual_loop().time()
    await Transport({"abort": own.abort, "is_gone": lambda: False}).until_gone(5)
    assert own.is_aborted
    assert 5 <= virtual_loop().time() - begun <= 5 + 2 * LOOK_SECONDS
