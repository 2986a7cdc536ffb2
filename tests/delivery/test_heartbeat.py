"""Who used to ping and has stopped is closed, unless it is we who have stopped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from orgrealtime.delivery.heartbeat import (
    CHECK_SECONDS,
    SILENT_HEARTBEATS,
    close_silent_connections,
    is_silent,
)
from orgrealtime.delivery.stalls import STALL_SECONDS
from orgrealtime.errors import CloseCode
from tests.conftest import Configure
from tests.virtual import virtual_loop, virtually

HEARTBEAT = 10.0
PATIENCE = SILENT_HEARTBEATS * HEARTBEAT


class Pinging:
    """As much of a connection as is looked at for its pings."""

    def __init__(self, pinged_at: float | None = None) -> None:
        self.pinged_at = pinged_at
        self.closed: list[tuple[float, CloseCode]] = []

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed.append((virtual_loop().time(), code))


@pytest.fixture(autouse=True)
def _heartbeat(configure: Configure) -> None:
    configure(HEARTBEAT_SECONDS=HEARTBEAT)


def watch(*connections: Any) -> asyncio.Task[None]:
    return asyncio.create_task(close_silent_connections(connections))


@pytest.mark.parametrize(("ago", "expected"), [(0.0, False), (PATIENCE, False), (PATIENCE + 0.1, True)])
def test_client_is_silent_after_some_heartbeats_without_a_ping(ago: float, expected: bool) -> None:
    connection: Any = Pinging(pinged_at=100.0)
    assert is_silent(connection, 100.0 + ago) is expected


@virtually
async def test_client_that_stops_to_ping_is_closed_4408_soon_after() -> None:
    silent = Pinging(pinged_at=0.0)
    watching = watch(silent)
    await asyncio.sleep(PATIENCE + CHECK_SECONDS + 0.1)
    (at, code), *_ = silent.closed
    assert code == CloseCode.SLOW_CONSUMER
    assert PATIENCE < at <= PATIENCE + CHECK_SECONDS
    watching.cancel()


@virtually
async def test_client_that_pings_and_one_that_never_has_stay() -> None:
    pinging, mute = Pinging(pinged_at=0.0), Pinging()
    watching = watch(pinging, mute)
    for _ in range(20):
        await asyncio.sleep(HEARTBEAT)
        pinging.pinged_at = virtual_loop().time()
    assert (pinging.closed, mute.closed) == ([], [])
    watching.cancel()


@virtually
async def test_loop_that_was_blocked_reads_what_has_come_before_it_closes_anybody() -> None:
    connection, gone = Pinging(pinged_at=0.0), Pinging(pinged_at=0.0)
    watching = watch(connection, gone)
    await asyncio.sleep(CHECK_SECONDS * 1.5)
    virtual_loop().block(PATIENCE + STALL_SECONDS)
    await asyncio.sleep(0.1)
    assert (connection.closed, gone.closed) == ([], [])
    connection.pinged_at = virtual_loop().time()  # it has been waiting to be read
    await asyncio.sleep(CHECK_SECONDS * 2)
    assert connection.closed == []
    assert gone.closed
    watching.cancel()
