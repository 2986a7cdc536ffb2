"""What host projects test their own consumers with."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connections
from pytest_django.fixtures import Settings

from orgrealtime import publish
from orgrealtime.stream import database
from orgrealtime.testing.communicator import OrgCommunicator
from orgrealtime.testing.continuity import assert_no_gap
from tests.host.models import Membership, Organization
from tests.sockets import APPLICATION, publish_event

with_commits = pytest.mark.django_db(transaction=True)


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


# Reading what comes as it is


@with_commits
async def test_socket_that_is_only_logged_in_can_be_refused(carol: User, acme: Organization) -> None:
    knocking = await OrgCommunicator.logged_in(carol, acme, application=APPLICATION, last=1)
    assert await knocking.connect() == (False, 4403)


@with_commits
async def test_catch_up_can_still_be_asked_for_after_synced(
    socket: OrgCommunicator, alice: User, acme: Organization
) -> None:
    await publish_event(acme, "note", number=1)
    again = await OrgCommunicator.logged_in(alice, acme, application=APPLICATION, last=1)
    assert (await again.connect())[0]
    assert [event["number"] for event in (await again.synced()).events()] == [1]
    await again.disconnect()


@with_commits
async def test_frames_are_read_one_by_one_and_their_events_only_once(
    socket: OrgCommunicator, acme: Organization
) -> None:
    await publish_event(acme, "note", number=1)
    assert (await socket.frame())["number"] == 1
    await socket.send_json_to({"type": "ping"})
    assert [frame["type"] for frame in await socket.until("pong")] == ["pong"]
    await publish_event(acme, "last")
    assert (await socket.until("last"))[-1]["type"] == "last"
    assert socket.events() == []
    assert_no_gap(socket.frames)


@with_commits
async def test_question_is_answered_by_the_next_frame(socket: OrgCommunicator) -> None:
    assert (await socket.ask({"type": "ping"}))["type"] == "pong"


@with_commits
async def test_next_events_are_as_many_as_were_asked_for(socket: OrgCommunicator, acme: Organization) -> None:
    for number in range(3):
        await publish_event(acme, "note", number=number)
    assert [event["number"] for event in await socket.next_events(3)] == [0, 1, 2]


@with_commits
async def test_code_of_the_close_is_returned_and_what_came_before_is_kept(
    socket: OrgCommunicator, alice: User, acme: Organization
) -> None:
    await publish_event(acme, "note", number=1)
    await database.HANDSHAKE.run(lambda: Membership.objects.get(user=alice).delete())
    assert await socket.close_code() == 4403
    assert_no_gap(socket.frames)


async def ends_at_once(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.send", "text": '{"type": "bye"}'})


async def never_ends(scope: Any, receive: Any, send: Any) -> None:
    for number in range(3):
        await receive()
        await send({"type": "websocket.send", "text": json.dumps({"type": "batch", "events": [{}] * number})})
    await asyncio.Event().wait()


async def fails(scope: Any, receive: Any, send: Any) -> None:
    raise LookupError("of the consumer")


def impatient(application: Any) -> OrgCommunicator:
    class Impatient(OrgCommunicator):
        patience = 0.05

    return Impatient(application, "/")


async def test_end_of_the_consumer_is_told_after_what_it_has_sent() -> None:
    socket = OrgCommunicator(ends_at_once, "/")
    assert await socket.frame() == {"type": "bye"}
    with pytest.raises(AssertionError, match=r"the consumer has ended; received so far: .*bye"):
        await socket.frame()


async def test_error_of_the_consumer_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(LookupError, match="of the consumer"):
        await OrgCommunicator(fails, "/").frame()
    with pytest.raises(LookupError, match="of the consumer"):
        await OrgCommunicator(fails, "/").connect()


async def test_wait_ends_with_the_patience_of_the_class_and_leaves_the_consumer() -> None:
    socket = impatient(never_ends)
    for wait in (socket.frame, socket.close_code):
        with pytest.raises(AssertionError, match=r"within 0\.05 s"):
            await wait()
    with pytest.raises(TimeoutError, match=r"no message within 0\.05 s; received so far: \[\]"):
        await socket.receive_output()
    assert (await socket.ask({"type": "hello"}))["type"] == "batch"


async def test_more_events_than_asked_for_are_named() -> None:
    socket = impatient(never_ends)
    for _ in range(3):
        await socket.send_json_to({"type": "hello"})
    with pytest.raises(AssertionError, match="expected 2 events, these came as well"):
        await socket.next_events(2)
    with pytest.raises(AssertionError, match=r"no event within 0\.05 s, expected 2 events"):
        await socket.next_events(2)


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
    text = (Path(__file__).parent.parent.parent / "docs/howto/test-your-project.md").read_text()
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
    assert await sync_to_async(open_connections)() == []


def open_connections() -> list[str]:
    return [
        connection.alias for connection in connections.all(initialized_only=True) if connection.connection
    ]


@with_commits
async def test_logging_in_leaves_no_database_connection(alice: User, acme: Organization) -> None:
    await OrgCommunicator.logged_in(alice, acme, application=APPLICATION)
    assert await sync_to_async(open_connections)() == []
