"""The channel layer that loses, doubles and reorders, with which hosts see that nothing depends on rings."""

from __future__ import annotations

from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.core.exceptions import ImproperlyConfigured
from pytest_django.fixtures import Settings

from orgrealtime.delivery import bell
from orgrealtime.testing.communicator import OrgCommunicator
from orgrealtime.testing.continuity import assert_no_gap
from orgrealtime.testing.layers import LossyChannelLayer
from tests.conftest import Configure
from tests.host.models import Organization
from tests.sockets import publish_event, settled

IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}

with_commits = pytest.mark.django_db(transaction=True)


def lossy(**odds: Any) -> dict[str, Any]:
    return {
        "default": {
            "BACKEND": "orgrealtime.testing.layers.LossyChannelLayer",
            "CONFIG": {"layer": IN_MEMORY, "seed": 1, **odds},
        }
    }


async def heard(layer: LossyChannelLayer, count: int) -> list[int]:
    """What one channel gets of this many messages to its group."""
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    for number in range(count):
        await layer.group_send("group", {"type": "note", "number": number})
    await layer.group_send("group", {"type": "end"})
    await layer._inner.group_send("group", {"type": "end of all"})
    numbers: list[int] = []
    while (message := await layer.receive(channel))["type"] != "end of all":
        numbers += [message["number"]] if "number" in message else []
    return numbers


async def test_layer_without_odds_loses_nothing() -> None:
    assert await heard(LossyChannelLayer(IN_MEMORY), 20) == list(range(20))


async def test_layer_drops_doubles_and_reorders_repeatably() -> None:
    dropped = await heard(LossyChannelLayer(IN_MEMORY, drop=0.5, seed=1), 50)
    assert 0 < len(dropped) < 50
    assert dropped == sorted(set(dropped)) == await heard(LossyChannelLayer(IN_MEMORY, drop=0.5, seed=1), 50)
    doubled = await heard(LossyChannelLayer(IN_MEMORY, double=1), 20)
    assert doubled == [number for number in range(20) for _ in range(2)]
    reordered = await heard(LossyChannelLayer(IN_MEMORY, reorder=0.5, seed=1), 20)
    assert reordered != sorted(reordered)
    assert len(set(reordered)) == len(reordered) >= 19


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layer": IN_MEMORY, "drop": 2}, "'drop' is a probability from 0 to 1, not 2"),
        ({"layer": "memory"}, "'layer' is the wrapped layer as in CHANNEL_LAYERS, a dict with 'BACKEND'"),
    ],
)
def test_layer_refuses_what_it_cannot_use(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        LossyChannelLayer(**config)


@pytest.fixture
def lossless(settings: Settings) -> None:
    settings.CHANNEL_LAYERS = lossy()


@pytest.fixture
def lost(settings: Settings, configure: Configure) -> None:
    settings.CHANNEL_LAYERS = lossy(drop=1)
    configure(POLL_SECONDS=0.2)


@with_commits
async def test_rings_of_this_process_go_through_the_layer(
    lossless: None, socket: OrgCommunicator, acme: Organization, configure: Configure
) -> None:
    configure(POLL_SECONDS=60.0, IDLE_POLL_SECONDS=60.0)
    assert isinstance(bell.get_layer(), LossyChannelLayer)
    await settled()
    for number in range(3):
        await publish_event(acme, "note", number=number)
        await socket.assert_event("note", number=number)


@with_commits
async def test_events_arrive_though_every_ring_is_lost(
    lost: None, socket: OrgCommunicator, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = get_channel_layer()
    assert isinstance(layer, LossyChannelLayer)
    for number in range(3):
        await publish_event(acme, "note", number=number)
        await socket.assert_event("note", number=number)
    assert_no_gap(socket.frames)
