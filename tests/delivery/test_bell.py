"""How a hub learns whether the layer rings, and what it says of it."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from pytest_django.fixtures import Settings

from orgrealtime.delivery.bell import FAILURES_AT_START, Subscription

SILENT = "the layer doesn't ring, polling instead"


class DeadLayer:
    """As where Redis is down."""

    async def new_channel(self) -> str:
        raise ConnectionError

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        raise ConnectionError


@pytest.fixture
def ear(settings: Settings) -> Subscription:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.DeadLayer"}}
    return Subscription(lambda hint: None)


async def test_layer_that_never_rings_is_said_once(
    ear: Subscription, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "orgrealtime.bell")
    for number in range(1, FAILURES_AT_START * 3):
        assert not await ear.prove()
        assert caplog.messages.count(SILENT) == (number >= FAILURES_AT_START)


async def test_layer_that_rings_no_longer_is_said_at_once(
    ear: Subscription, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "orgrealtime.bell")
    ear.is_proved = ear._was_proved = True
    for _ in range(FAILURES_AT_START * 3):
        await ear.prove()
        assert caplog.messages.count(SILENT) == 1
