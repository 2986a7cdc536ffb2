"""The channel layer goes deaf while Redis is well, or is well again (docs/explanation/faults.md)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from tests.faults.load import Load
from tests.faults.rig import Rig

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="session")]

both_layers = pytest.mark.parametrize("layer", ["pubsub", "core"])


@asynccontextmanager
async def loaded(rig: Rig, fault: str, injected: str, layer: str) -> AsyncIterator[Load]:
    """The site under load, with one of the layers."""
    async with AsyncExitStack() as stack:
        if layer != "pubsub":
            await stack.enter_async_context(rig.site_with(FAULTS_LAYER=layer))
        bound = "hubs hear <=15 s after, said once"
        load = await stack.enter_async_context(rig.load(fault, f"{injected}, {layer} layer", bound))
        await load.until(lambda: heard(rig, rig.log_begin) >= rig.site.workers, 15, "all hubs hear")
        yield load


@asynccontextmanager
async def channels_taken_away(rig: Rig) -> AsyncIterator[None]:
    """For a while Redis' user may use neither channels nor keys, and loses its subscriptions."""
    rig.cache.command("ACL", "SETUSER", "default", "resetchannels", "resetkeys")
    try:
        yield
    finally:
        rig.cache.command("ACL", "SETUSER", "default", "allchannels", "allkeys")


@asynccontextmanager
async def connections_forgotten(rig: Rig) -> AsyncIterator[None]:
    """No byte passes by the connections to Redis that are there, for ever; new ones are well."""
    forgotten = rig.to_redis.forget()
    yield
    rig.to_redis.give_up(forgotten)  # else Redis would count their channels until its keepalive ends them


@both_layers
@pytest.mark.parametrize(
    "trouble", [channels_taken_away, connections_forgotten], ids=lambda each: each.__name__
)
async def test_f40_subscriptions_are_lost(
    rig: Rig, layer: str, trouble: Callable[[Rig], AbstractAsyncContextManager[None]]
) -> None:
    async with loaded(rig, "F40", trouble.__name__.replace("_", " "), layer) as load:
        place = len(rig.log())
        async with trouble(rig):
            await load.until(lambda: deaf(rig, place) == rig.site.workers, 15, "all hubs have noticed")
            await asyncio.sleep(8)
            await load.caught_up(within=5)
        await hears_again(rig, load, place)


@both_layers
async def test_f41_messages_cant_be_read(rig: Rig, layer: str) -> None:
    async with loaded(rig, "F41", "60 messages that can't be read, on each channel", layer) as load:
        place = len(rig.log())
        flood(rig, layer, 60)
        await load.until(lambda: deaf(rig, place) == rig.site.workers, 15, "all hubs have noticed")
        await hears_again(rig, load, place)


def heard(rig: Rig, place: int) -> int:
    return rig.log_since(place).count("the layer rings")


def deaf(rig: Rig, place: int) -> int:
    return rig.log_since(place).count("the layer doesn't ring")


async def hears_again(rig: Rig, load: Load, place: int) -> None:
    """Each hub is proved again in time, and has said so once; events come as ever."""
    seconds = await load.until(lambda: heard(rig, place) >= rig.site.workers, 15, "all hubs hear again")
    load.measured(f"heard again after {seconds:.1f} s")
    await load.caught_up(within=5)
    assert (deaf(rig, place), heard(rig, place)) == (rig.site.workers, rig.site.workers)


def flood(rig: Rig, layer: str, messages: int) -> None:
    if layer == "pubsub":
        for channel in rig.cache.command("PUBSUB", "CHANNELS", "*__group__*"):
            for _ in range(messages):
                rig.cache.command("PUBLISH", channel, b"\x00" * 20)
        return
    for channel in rig.cache.command("ZRANGE", "asgi:group:orgrealtime", 0, -1):
        key = b"asgi" + channel.partition(b"!")[0] + b"!"
        now = time.time()  # what is older than a minute the layer would take for expired
        for number in range(messages):
            rig.cache.command("ZADD", key, now + number / 1000, b"\xc1" * 12 + b"%d" % number)
