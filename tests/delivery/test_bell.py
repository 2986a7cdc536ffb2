"""How a hub learns whether the layer rings, and what it says of it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
from channels.layers import get_channel_layer
from pytest_django.fixtures import Settings

from orgrealtime.delivery.bell import FAILURES_AT_START, Subscription
from orgrealtime.testing.layers import LossyChannelLayer

SILENT = "the layer doesn't ring, polling instead"


class MortalLayer(LossyChannelLayer):
    """Loses nothing, but may die, as where Redis is down."""

    is_dead = False

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
