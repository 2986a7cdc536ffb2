"""What host projects test their own consumers with: the communicator and the lossy channel layer."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from pytest_django.fixtures import Settings

from orgrealtime import publish
from orgrealtime.concurrency import threads as pools
from orgrealtime.delivery import bell
from orgrealtime.delivery.hub import close_hub
from orgrealtime.stream import database
from orgrealtime.testing.communicator import OrgCommunicator
from orgrealtime.testing.continuity import assert_no_gap
from orgrealtime.testing.layers import LossyChannelLayer
from tests.conftest import Configure
from tests.host.models import Membership, Organization
from tests.sockets import APPLICATION, publish_event, settled

IN_MEMORY = {"BACKEND": "channels.layers.InMemoryChannelLayer"}

with_commits = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def socket(alice: User, acme: Organization) -> AsyncIterator[OrgCommunicator]:
    socket = await OrgCommunicator.connect_as(alice, acme, application=APPLICATION)
    yield socket
    if not socket.future.done():
        await socket.disconnect()
    await close_hub()
    await sync_to_async(connections.close_all)()
    pools.close_all()


# The communicator


@with_commits
async def test_events_are_asserted_one_by_one(socket: OrgCommunicator, acme: Organization) -> None:
    await publish_event(acme, "note", number=1, tags=["a"])
    await publish_event(acme, "note", number=2)
    event = await socket.assert_event("note", number=1, tags=["a"])
    assert event["cursor"].endswith(".1")
    await socket.assert_event("note", number=2)
    await socket.assert_silent(0.1)
    assert_no_gap(socket.frames)


@with_commits
async def test_failure_shows_what_came_instead(socket: OrgCommunicator, acme: Organization) -> None:
    await publish_event(acme, "note", number=1)
    with pytest.raises(AssertionError, match=r"'number': 2}, this came instead: {.*'number': 1}"):
        await socket.assert_event("note", number=2)


@with_commits
async def test_nothing_in_time_is_said_and_leaves_the_connection(
    socket: OrgCommunicator, acme: Organization
) -> None:
    with pytest.raises(AssertionError, match=r"no event within 0\.1 s.*received so far: .*welcome"):
        await socket.assert_event("note", within=0.1)
    await publish_event(acme, "note")
    await socket.assert_event("note")


@with_commits
async def test_event_breaks_the_silence(socket: OrgCommunicator, acme: Organization) -> None:
    await publish_event(acme, "note", number=1)
    with pytest.raises(AssertionError, match=r"expected no event, these came: .*'number': 1"):
        await socket.assert_silent(10)
    assert [event["number"] for event in socket.events()] == [1]
    assert socket.events() == []


@with_commits
async def test_closed_connection_is_named_with_its_code(
    socket: OrgCommunicator, alice: User, acme: Organization
) -> None:
    await database.HANDSHAKE.run(lambda: Membership.objects.get(user=alice).delete())
    with pytest.raises(AssertionError, match="closed with 4403"):
        await socket.assert_event("note")


@with_commits
async def test_refusal_is_named_with_its_code(
    socket: OrgCommunicator, carol: User, acme: Organization
) -> None:
    with pytest.raises(AssertionError, match=r"carol is refused at /ws/orgs/acme/notifications/ with 4403"):
        await OrgCommunicator.connect_as(carol, acme, application=APPLICATION)


@with_commits
async def test_connection_goes_on_at_a_cursor(
    socket: OrgCommunicator, alice: User, acme: Organization
) -> None:
    first = socket.frames[-1]["cursor"]
    await publish_event(acme, "note", number=1)
    again = await OrgCommunicator.connect_as(alice, acme, application=APPLICATION, since=first)
    await again.assert_event("note", number=1)
    assert_no_gap(again.frames)
    await again.disconnect()


def test_missing_daphne_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "orgrealtime.testing.communicator")
    monkeypatch.setitem(sys.modules, "channels.testing", None)
    with pytest.raises(ImportError, match=r"needs daphne.*pip install 'channels\[daphne\]'"):
        importlib.import_module("orgrealtime.testing.communicator")


# The examples of the page


@with_commits
async def test_examples_of_the_page_run(
    socket: OrgCommunicator, alice: User, acme: Organization, settings: Settings
) -> None:
    text = (Path(__file__).parent.parent / "docs/howto/test-your-project.md").read_text()
    blocks = re.findall(r"^```python\n(.+?)^```", text, re.MULTILINE | re.DOTALL)
    (example,) = [block for block in blocks if "OrgCommunicator" in block]
    (lossy_layer,) = [block for block in blocks if "LossyChannelLayer" in block]

    def add_note(organization: Organization, user: User, text: str) -> None:
        publish(organization, "note_added", {"text": text}, actor=user)

    config: dict[str, Any] = {}
    exec(lossy_layer, config)  # noqa: S102 - our own page
    settings.CHANNEL_LAYERS = config["CHANNEL_LAYERS"]
    names: dict[str, Any] = {"add_note": add_note}
    exec(  # noqa: S102
        example.replace("from config.asgi", "from tests.sockets").replace(
            "application\n", "APPLICATION as application\n", 1
        ),
        names,
    )
    await names["test_a_note_arrives"](acme, alice)


# The lossy layer


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
