"""How a hub learns whether the layer rings, and what it says of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import redis
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from pytest_django.fixtures import Settings

from orgrealtime.delivery import bell
from orgrealtime.delivery.bell import FAILURES_AT_START, SILENT_PROOFS, Subscription
from orgrealtime.delivery.hub import Hub, close_hub, get_hub
from orgrealtime.testing.layers import LossyChannelLayer
from tests.faults.proxy import Proxy
from tests.servers import Redis
from tests.stopwatch import Stopwatch
from tests.waiting import eventually

SILENT = "the layer doesn't ring, polling instead"
RINGS = "the layer rings"
HEALED_SECONDS = 15.0


class MortalLayer(LossyChannelLayer):
    """Loses nothing, but may die, as where Redis is down, or have something else."""

    is_dead = False
    refuses_groups = False
    unreadable = 0  # so many messages

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.remembered: set[tuple[str, str]] = set()

    async def group_add(self, group: str, channel: str) -> None:
        """Do nothing for what it remembers to have joined, as channels_redis' pubsub layer."""
        if self.refuses_groups:
            raise ConnectionError
        if (group, channel) not in self.remembered:
            self.remembered.add((group, channel))
            await self._inner.group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        self.remembered.discard((group, channel))
        await self._inner.group_discard(group, channel)

    async def receive(self, channel: str) -> Any:
        if self.unreadable:
            self.unreadable -= 1
            raise ValueError
        return await self._inner.receive(channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.is_dead:
            raise ConnectionError
        await super().group_send(group, message)


@pytest.fixture
def layer(settings: Settings) -> MortalLayer:
    inner = {"BACKEND": "channels.layers.InMemoryChannelLayer"}
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.MortalLayer", "CONFIG": {"layer": inner}}}
    layer = get_channel_layer()
    assert isinstance(layer, MortalLayer)
    return layer


@pytest.fixture
async def ear(layer: MortalLayer) -> AsyncIterator[Subscription]:
    ear = Subscription(lambda hint: None)
    yield ear
    await ear.close()


async def test_layer_that_never_rings_is_said_once(
    ear: Subscription, layer: MortalLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "orgrealtime.bell")
    layer.is_dead = True
    for number in range(1, FAILURES_AT_START * 3):
        assert not await ear.prove()
        assert caplog.messages.count(SILENT) == (number >= FAILURES_AT_START)


async def test_layer_that_rings_no_longer_is_said_at_once(
    ear: Subscription, layer: MortalLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "orgrealtime.bell")
    assert await ear.prove()
    assert SILENT not in caplog.messages
    layer.is_dead = True
    for _ in range(FAILURES_AT_START * 3):
        assert not await ear.prove()
        assert caplog.messages.count(SILENT) == 1


async def test_subscription_that_the_layer_has_lost_and_remembers_is_made_anew(
    ear: Subscription, layer: MortalLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orgrealtime.bell")
    hints: list[bell.Hint] = []
    ear._on_hint = hints.append
    assert await ear.prove()
    await ear.join(7)
    layer._inner.groups.clear()
    for _ in range(SILENT_PROOFS):
        assert not await ear.prove()
        await ear.join_again()
    assert await ear.prove()
    await layer.group_send(bell.group(7), {"type": bell.MESSAGE_TYPE, "organization": "7"})
    await eventually(lambda: hints == [bell.Hint("7")], seen=lambda: hints)
    assert said(caplog) == {RINGS: 2, SILENT: 1}
    assert all(len(channels) == 1 for channels in layer._inner.groups.values()), (
        "nothing is left of the old one"
    )


async def test_messages_that_cant_be_read_are_passed_over_at_once(
    ear: Subscription, layer: MortalLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orgrealtime.bell")
    assert await ear.prove()
    layer.unreadable = 60
    with Stopwatch() as watch:
        await layer.group_send(bell.EVERYONE, {"type": "anything"})
        await eventually(lambda: layer.unreadable == 0)
        watch.check(1, "all are passed over")
    assert not await ear.prove(), "what was in them is to be found by polling"
    assert await ear.prove()
    assert said(caplog) == {RINGS: 2, SILENT: 1}


async def test_group_that_cant_be_joined_is_polled_for_until_it_is(
    ear: Subscription, layer: MortalLayer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "orgrealtime.bell")
    assert await ear.prove()
    layer.refuses_groups = True
    for number in range(3):
        await ear.join(number)
        assert not await ear.prove()
    layer.refuses_groups = False
    await ear.join_again()
    assert await ear.prove()
    assert said(caplog) == {RINGS: 2, SILENT: 1}


def said(caplog: pytest.LogCaptureFixture) -> Counter[str]:
    """What the bell has logged, each message with how often."""
    return Counter(record.getMessage() for record in caplog.records if record.name == "orgrealtime.bell")


# ------------------------------------------------------------------------------------- the layers of channels_redis


@pytest.fixture
def own_redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


class Heard:
    """A hub on a layer of channels_redis, behind a proxy: what it hears, and what can happen to Redis."""

    def __init__(self, hub: Hub, server: Redis, proxy: Proxy, kind: str) -> None:
        self.hub, self.server, self.proxy, self.kind = hub, server, proxy, kind
        self.hints: list[bell.Hint] = []
        hub.subscribe(bell.HintKind.ACCESS_OF_USER, self.hints.append)

    @property
    def is_proved(self) -> bool:
        return self.hub._subscription.is_proved

    async def command(self, *words: Any) -> Any:
        """Past the proxy."""
        with contextlib.closing(redis.Redis.from_url(self.server.url)) as client:
            return await asyncio.to_thread(client.execute_command, *words)

    async def rings(self) -> None:
        """A ring of another process comes."""
        user = uuid.uuid4().hex
        other = channel_layers.make_backend("default")
        await other.group_send(bell.EVERYONE, {"type": bell.MESSAGE_TYPE, "user": user})
        await eventually(lambda: bell.Hint(user=user) in self.hints, "the ring is heard")
        await (other.flush() if self.kind == "pubsub" else other.close_pools())

    async def flood(self, messages: int) -> None:
        """Messages that can't be read, to each channel that the hub hears."""
        if self.kind == "pubsub":
            for channel in await self.command("PUBSUB", "CHANNELS", "*__group__*"):
                for _ in range(messages):
                    await self.command("PUBLISH", channel, b"\x00" * 20)
        else:
            (channel,) = await self.command("ZRANGE", f"asgi:group:{bell.EVERYONE}", 0, -1)
            key = b"asgi" + channel.partition(b"!")[0] + b"!"
            for number in range(messages):
                await self.command("ZADD", key, number, b"\xc1" * 12 + b"%d" % number)


@pytest.fixture(params=["pubsub", "core"])
async def heard(request: pytest.FixtureRequest, own_redis: Redis, settings: Settings) -> AsyncIterator[Heard]:
    backend = {"pubsub": "pubsub.RedisPubSubChannelLayer", "core": "core.RedisChannelLayer"}[request.param]
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(Proxy(own_redis.port, random.Random(1)))
        host = {"address": f"redis://127.0.0.1:{proxy.port}", "socket_timeout": 15}
        settings.CHANNEL_LAYERS = {
            "default": {"BACKEND": f"channels_redis.{backend}", "CONFIG": {"hosts": [host]}}
        }
        stack.push_async_callback(close_hub)
        heard = Heard(get_hub(), own_redis, proxy, request.param)
        await eventually(lambda: heard.is_proved)
        yield heard


@asynccontextmanager
async def acl_without_channels(heard: Heard) -> AsyncIterator[None]:
    """Redis' user of the layer may use no channels or keys for a while, and loses its subscriptions."""
    await heard.command("ACL", "SETUSER", "default", "resetchannels", "resetkeys")
    try:
        yield
        await eventually(lambda: not heard.is_proved)
    finally:
        await heard.command("ACL", "SETUSER", "default", "allchannels", "allkeys")


@asynccontextmanager
async def messages_of_another_key(heard: Heard) -> AsyncIterator[None]:
    """What other processes send can't be read."""
    await heard.flood(60)
    yield


@asynccontextmanager
async def connections_that_a_firewall_forgets(heard: Heard) -> AsyncIterator[None]:
    """No byte passes by connections that are there, and nobody is told; new ones are well."""
    heard.proxy.forget()
    yield


@asynccontextmanager
async def restart(heard: Heard) -> AsyncIterator[None]:
    """Redis goes away and comes back empty."""
    await asyncio.to_thread(heard.server.kill)
    try:
        yield
        await eventually(lambda: not heard.is_proved)
    finally:
        await asyncio.to_thread(heard.server.start)


@pytest.mark.slow
@pytest.mark.parametrize(
    "trouble",
    [acl_without_channels, messages_of_another_key, connections_that_a_firewall_forgets, restart],
    ids=lambda trouble: trouble.__name__,
)
async def test_hub_is_proved_again_within_15_s_and_says_so_once(
    heard: Heard,
    trouble: Callable[[Heard], contextlib.AbstractAsyncContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "orgrealtime.bell")
    await heard.rings()
    async with trouble(heard):
        pass
    with Stopwatch() as watch:
        await eventually(lambda: said(caplog)[RINGS] == 1, seen=lambda: said(caplog))
        watch.check(HEALED_SECONDS, "proved again")
    await heard.rings()
    assert said(caplog) == {SILENT: 1, RINGS: 1}


async def test_hub_without_a_layer_for_other_processes_has_nobody_to_hear(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for layer, is_alone in ((InMemoryChannelLayer(), True), (None, False), (object(), False)):
        monkeypatch.setattr(bell, "get_channel_layer", lambda alias, layer=layer: layer)
        assert Subscription(lambda hint: None).is_alone is is_alone
