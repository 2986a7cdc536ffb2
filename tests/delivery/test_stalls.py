"""A stall is noticed once, before anything is sent that was read in it, and waiting is none."""

from __future__ import annotations

import asyncio
import logging

import pytest

from orgrealtime.delivery.stalls import LOOK_SECONDS, STALL_SECONDS, Stalls
from tests.virtual import virtual_loop, virtually


@virtually
async def test_stall_is_noticed_once_and_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "orgrealtime.hub")
    noticed: list[float] = []
    stalls = Stalls(lambda: noticed.append(virtual_loop().time()))
    watching = asyncio.create_task(stalls.watch())
    await asyncio.sleep(LOOK_SECONDS * 1.5)
    virtual_loop().block(STALL_SECONDS * 2)
    stalls.notice()  # as before events are sent, whichever comes first
    assert noticed == [virtual_loop().time()]
    await asyncio.sleep(60)
    assert len(noticed) == 1
    assert caplog.messages == ["the event loop was blocked"]
    watching.cancel()


@virtually
async def test_stall_that_nothing_is_sent_after_is_noticed_all_the_same() -> None:
    noticed: list[float] = []
    watching = asyncio.create_task(Stalls(lambda: noticed.append(virtual_loop().time())).watch())
    for _ in range(2):
        await asyncio.sleep(60)
        virtual_loop().block(STALL_SECONDS * 2)
    await asyncio.sleep(LOOK_SECONDS)
    assert len(noticed) == 2
    watching.cancel()


@virtually
async def test_loop_that_is_only_busy_or_idle_has_not_stalled() -> None:
    noticed: list[float] = []
    watching = asyncio.create_task(Stalls(lambda: noticed.append(virtual_loop().time())).watch())
    for _ in range(20):
        await asyncio.sleep(LOOK_SECONDS / 2)
        virtual_loop().block(STALL_SECONDS - LOOK_SECONDS * 1.1)
    await asyncio.sleep(3600)
    assert noticed == []
    watching.cancel()


@virtually
async def test_stall_of_several_blocks_in_one_turn_of_the_loop_is_noticed() -> None:
    noticed: list[float] = []
    stalls = Stalls(lambda: noticed.append(virtual_loop().time()))
    for _ in range(3):
        virtual_loop().block(STALL_SECONDS / 2)
        stalls.notice()
    assert len(noticed) == 1
