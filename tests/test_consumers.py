"""The WebSocket consumer without a server: who is let in, what travels, what a host can override."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import weakref
from collections.abc import Collection
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.contrib.auth.models import AnonymousUser, User
from django.db import transaction

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.adapters import MembershipAdapter
from orgrealtime.consumers import NotificationsConsumer, OrgConsumer, command
from orgrealtime.delivery import bell, feed
from orgrealtime.delivery.hub import Hub, get_hub
from orgrealtime.errors import MessageError
from orgrealtime.models import NotificationEvent
from orgrealtime.protocol import wire
from orgrealtime.rates import Rate
from orgrealtime.stream import database
from tests.conftest import Configure
from tests.host.models import Membership, Organization
from tests.sockets import (
    Frame,
    Socket,
    Sockets,
    browser_headers,
    events_of,
    log_in,
    publish_event,
    routed,
    settled,
)
from tests.waiting import eventually

NEVER = 3600.0


async def publish_numbers(organization: Organization, numbers: Collection[int]) -> None:
    """Publish events that carry these numbers, in one transaction."""

    def work() -> None:
        with transaction.atomic():
            for number in numbers:
                publish(organization, "note", {"number": number})

    await database.LIVE.run(work)


def id_on_the_wire(instance: Organization | User) -> Any:
    key: Any = instance.pk
    return key if isinstance(key, int) else str(key)


def numbers(events: list[Frame]) -> list[int]:
    return [event["number"] for event in events]


# ---------------------------------------------------------------------------------------------- who is let in


async def test_member_is_welcomed_and_synced(sockets: Sockets, alice: User, acme: Organization) -> None:
    socket = await sockets.open(alice)
    welcome, synced = await socket.until("synced")
    assert re.fullmatch("[0-9a-f]{16}", welcome.pop("connection_id"))
    assert re.fullmatch("[0-9a-f]{8}[.]0", welcome["cursor"])
    assert synced == {"type": "synced", "cursor": welcome["cursor"]}
    assert welcome == {
        "type": "welcome",
        "protocol": 1,
        "org": {"id": id_on_the_wire(acme), "slug": "acme"},
        "user": {"id": id_on_the_wire(alice)},
        "cursor": synced["cursor"],
        "heartbeat": 25.0,
        "limits": {"message_bytes": 16_384, "unacknowledged_events": 2000},
    }


async def test_non_member_is_refused_with_4403(sockets: Sockets, carol: User, acme: Organization) -> None:
    assert await sockets.refused(carol) == 4403


async def test_anonymous_is_refused_with_4401(sockets: Sockets, acme: Organization) -> None:
    assert await sockets.refused() == 4401


async def test_unknown_organisation_is_refused_as_a_foreign_one(
    sockets: Sockets, carol: User, acme: Organization
) -> None:
    assert await sockets.refused(carol, "acme") == await sockets.refused(carol, "nowhere") == 4403


async def test_foreign_page_is_refused_although_the_cookie_is_good(sockets: Sockets, alice: User) -> None:
    cookie = await database.LIVE.run(log_in, alice)
    headers = browser_headers(cookie, origin="http://evil.example")
    assert await sockets.refused(scope={"headers": headers}) == 4403


async def test_bare_consumer_takes_user_and_route_from_the_scope(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    scope = {"user": alice, "url_route": {"args": (), "kwargs": {"org_slug": "acme"}}, "headers": []}
    socket = await sockets.open(application=NotificationsConsumer.as_asgi(), scope=scope)
    assert (await socket.frame())["org"] == {"id": id_on_the_wire(acme), "slug": "acme"}


async def test_bare_consumer_refuses_an_anonymous_scope(sockets: Sockets, acme: Organization) -> None:
    scope = {"user": AnonymousUser(), "url_route": {"kwargs": {"org_slug": "acme"}}, "headers": []}
    assert await sockets.refused(application=NotificationsConsumer.as_asgi(), scope=scope) == 4401


async def test_member_gets_the_subprotocol_that_was_offered(sockets: Sockets, alice: User) -> None:
    socket = await sockets.knock(alice, scope={"subprotocols": ["chat", "orgrealtime.v1"]})
    assert await socket.connect() == (True, "orgrealtime.v1")


async def test_member_gets_no_subprotocol_that_was_not_offered(sockets: Sockets, alice: User) -> None:
    socket = await sockets.knock(alice, scope={"subprotocols": ["orgrealtime.v2"]})
    assert await socket.connect() == (True, None)


@pytest.mark.parametrize(
    "query",
    [
        *("since=", "since=1", "since=1.5", "since=true", "since=-1", "since=x.1", "since=abcdef01.-1"),
        *("since=abcdef01.01", "since=abcdef01.9999999999999999999", f"since={'a' * 10_000}", "since=%00.1"),
        *("last=", "last=0", "last=-1", "last=501", "last=1e2", "last=two", "last=%D9%A3", "last=1000000"),
        *("since=abcdef01.1&last=1", "&".join(f"a{n}=1" for n in range(50))),
    ],
)
async def test_malformed_query_is_refused_with_4400(sockets: Sockets, alice: User, query: str) -> None:
    assert await sockets.refused(alice, query=query) == 4400


class BrokenAdapter(MembershipAdapter):
    """An adapter with a bug."""

    def find(self, slug: str, user: Any) -> None:
        raise LookupError("the secret is 4711")


async def test_failing_check_refuses_with_4503(sockets: Sockets, alice: User, configure: Configure) -> None:
    configure(ADAPTER="tests.test_consumers.BrokenAdapter")
    assert await sockets.refused(alice) == 4503


# ------------------------------------------------------------------------------- refusals where HTTP can be said


async def http_refusal(socket: Socket) -> tuple[int, dict[bytes, bytes], Any]:
    """Status, headers and JSON body with which a server that can do so refuses this handshake."""
    socket.scope["extensions"] = {"websocket.http.response": {}}
    await socket.send_input({"type": "websocket.connect"})
    start = await socket.receive_output()
    body = await socket.receive_output()
    assert [start["type"], body["type"]] == ["websocket.http.response.start", "websocket.http.response.body"]
    return start["status"], dict(start["headers"]), json.loads(body["body"])


async def test_anonymous_gets_status_401_and_a_json_body(sockets: Sockets, acme: Organization) -> None:
    status, headers, body = await http_refusal(await sockets.knock())
    assert (status, headers) == (401, {b"content-type": b"application/json", b"cache-control": b"no-store"})
    assert body == {
        "error": {"code": "unauthenticated", "message": "no session, or it expired or was logged out"}
    }


async def test_stranger_gets_one_answer_for_a_foreign_and_an_unknown_organisation(
    sockets: Sockets, carol: User, acme: Organization
) -> None:
    foreign = await http_refusal(await sockets.knock(carol, "acme"))
    assert foreign == await http_refusal(await sockets.knock(carol, "nowhere"))
    assert foreign[0] == 403
    assert foreign[2]["error"]["code"] == "forbidden"


async def test_malformed_query_gets_status_400_and_says_which_part(sockets: Sockets, alice: User) -> None:
    status, _, body = await http_refusal(await sockets.knock(alice, query="last=0"))
    assert (status, body["error"]["code"]) == (400, "bad_request")
    assert "'last'" in body["error"]["message"]


async def test_failing_check_gets_status_503_without_its_text(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    configure(ADAPTER="tests.test_consumers.BrokenAdapter")
    status, _, body = await http_refusal(await sockets.knock(alice))
    assert (status, body["error"]["code"]) == (503, "overloaded")
    assert "4711" not in str(body)


# -------------------------------------------------------------------------------------------- what is delivered


async def test_member_gets_an_event_in_its_wire_shape(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    socket = await (await sockets.open(alice)).synced()
    payload = {"task_id": 7, "action": "status_changed", "details": {"from": "todo", "to": "done"}}
    stored = await database.LIVE.run(publish, acme, "task_event", payload, actor=bob)
    event = await socket.frame()
    assert list(event)[:4] == ["type", "cursor", "created_at", "actor"]
    assert event == {
        "type": "task_event",
        "cursor": event["cursor"],
        "created_at": stored.created_at.isoformat().replace("+00:00", "Z"),
        "actor": bob.pk,
        **payload,
    }
    assert event["cursor"].endswith(".1")


async def test_broadcast_to_one_organisation_never_reaches_another(
    sockets: Sockets, alice: User, carol: User, acme: Organization, globex: Organization
) -> None:
    at_acme = await (await sockets.open(alice)).synced()
    at_globex = await (await sockets.open(carol, "globex")).synced()
    await publish_event(acme, of="acme")
    assert (await at_acme.frame())["of"] == "acme"
    await publish_event(globex, of="globex")
    assert (await at_globex.frame())["of"] == "globex"


async def test_member_of_two_organisations_gets_each_on_its_own_socket(
    sockets: Sockets, dave: User, acme: Organization, globex: Organization
) -> None:
    at_acme = await (await sockets.open(dave)).synced()
    at_globex = await (await sockets.open(dave, "globex")).synced()
    await publish_event(globex, of="globex")
    await publish_event(acme, of="acme")
    assert (await at_acme.frame())["of"] == "acme"
    assert (await at_globex.frame())["of"] == "globex"


async def test_burst_comes_as_one_batch(sockets: Sockets, alice: User, acme: Organization) -> None:
    socket = await (await sockets.open(alice)).synced()
    await publish_numbers(acme, range(50))
    batch = await socket.frame()
    assert batch["type"] == "batch"
    assert numbers(batch["events"]) == list(range(50))
    assert batch["cursor"] == batch["events"][-1]["cursor"]


async def test_any_unicode_comes_back_as_it_was_published(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    text = 'ä\u2028\u202e\ufeff\uffff 👩‍👩‍👧 \U0001d518 </script>\x1b[31m\r\n\t\x7f\\"'
    socket = await (await sockets.open(alice)).synced()
    await publish_event(acme, text=text)
    assert (await socket.frame())["text"] == text


async def test_event_for_one_user_comes_to_nobody_else(
    sockets: Sockets, alice: User, bob: User, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "CURSOR_SECONDS", 0.1)
    hers = await (await sockets.open(alice)).synced()
    his = await (await sockets.open(bob)).synced()
    await publish_event(acme, to=[alice], secret="for alice")
    event = await hers.frame()
    assert event["secret"] == "for alice"
    assert await his.frame() == {"type": "cursor", "cursor": event["cursor"]}


async def test_who_asks_often_learns_nothing_of_others_events(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    hers = await (await sockets.open(alice)).synced()
    his = await (await sockets.open(bob)).synced()
    before = (await his.ask({"type": "ping"}))["cursor"]
    for _ in range(3):
        await publish_event(acme, to=[alice])
        await hers.frame()
        assert await his.ask({"type": "ping"}) == {"type": "pong", "cursor": before}
    await publish_event(acme)
    after = (await his.frame())["cursor"]
    assert await his.ask({"type": "ping"}) == {"type": "pong", "cursor": after}
    assert after != before


async def test_event_for_one_user_is_left_out_of_a_batch(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    def work() -> None:
        with transaction.atomic():
            for number, audience in enumerate([None, [alice], None, [alice]]):
                publish(acme, "note", {"number": number}, to=audience)

    his = await (await sockets.open(bob)).synced()
    await database.LIVE.run(work)
    batch = await his.frame()
    assert numbers(batch["events"]) == [0, 2]
    assert batch["cursor"].endswith(".4")


async def test_event_for_one_user_is_left_out_of_others_backlog(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    start = (await (await sockets.open(alice)).frame())["cursor"]
    await publish_event(acme, to=[alice], secret="for alice")
    assert [
        frame["type"] for frame in await (await sockets.open(bob, query=f"since={start}")).until("synced")
    ] == [
        "welcome",
        "synced",
    ]
    assert events_of(await (await sockets.open(bob, query="last=10")).until("synced")) == []


# ------------------------------------------------------------------------------------------------ catching up


@pytest.mark.parametrize("beside", ["nobody", "another reader"])
async def test_reconnected_member_gets_all_250_events_then_synced_then_live(
    sockets: Sockets, alice: User, bob: User, acme: Organization, beside: str
) -> None:
    if beside == "another reader":
        await (await sockets.open(bob)).synced()
    first = await sockets.open(alice)
    cursor = (await first.until("synced"))[-1]["cursor"]
    await first.disconnect()
    await publish_numbers(acme, range(250))
    again = await sockets.open(alice, query=f"since={cursor}")
    frames = await again.until("synced")
    assert numbers(events_of(frames)) == list(range(250))
    assert frames[0]["cursor"] == cursor
    assert frames[-1]["cursor"] == events_of(frames)[-1]["cursor"]
    await publish_event(acme, number=250)
    assert numbers(await again.next_events(1)) == [250]


async def test_backlog_of_several_pages_comes_in_order_before_synced(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    first = await sockets.open(alice)
    cursor = (await first.frame())["cursor"]
    await publish_numbers(acme, range(1300))
    await first.next_events(1300)  # they are numbered
    frames = await (await sockets.open(alice, query=f"since={cursor}")).until("synced")
    assert numbers(events_of(frames)) == list(range(1300))


async def test_member_who_missed_nothing_is_synced_at_once(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    await publish_event(acme)
    cursor = (await (await sockets.open(alice)).frame())["cursor"]
    frames = await (await sockets.open(alice, query=f"since={cursor}")).until("synced")
    assert [(frame["type"], frame["cursor"]) for frame in frames] == [("welcome", cursor), ("synced", cursor)]


@pytest.mark.parametrize(("last", "expected"), [(1, [4]), (3, [2, 3, 4]), (500, [0, 1, 2, 3, 4])])
async def test_member_gets_the_last_events_asked_for(
    sockets: Sockets, alice: User, acme: Organization, last: int, expected: list[int]
) -> None:
    await publish_numbers(acme, range(5))
    socket = await sockets.open(alice, query=f"last={last}")
    assert numbers(events_of(await socket.until("synced"))) == expected


async def test_events_asked_for_by_number_are_those_the_member_may_see(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    await publish_numbers(acme, [1, 2])
    await publish_event(acme, to=[alice], number=3)
    frames = await (await sockets.open(bob, query="last=2")).until("synced")
    assert numbers(events_of(frames)) == [1, 2]
    assert frames[-1]["cursor"].endswith(".3")


@pytest.mark.parametrize("reason", ["epoch", "ahead", "retention"])
async def test_member_with_a_cursor_that_proves_nothing_is_told_to_reset(
    sockets: Sockets, alice: User, acme: Organization, reason: str
) -> None:
    await publish_numbers(acme, range(5))
    position = await database.LIVE.run(stream.position, acme)
    if reason == "retention":
        await database.LIVE.run(lambda: list(stream.prune(acme.pk, 3)))
    since = {"epoch": "0badc0de.2", "ahead": position.cursor_at(6), "retention": position.cursor_at(2)}[
        reason
    ]
    socket = await sockets.open(alice, query=f"since={since}")
    welcome, reset, synced = await socket.until("synced")
    assert reset == {"type": "reset", "cursor": position.cursor, "reason": reason}
    assert (welcome["cursor"], synced["cursor"]) == (since, position.cursor)
    await publish_event(acme, number=5)
    assert numbers(await socket.next_events(1)) == [5]


async def test_cursor_at_the_retention_floor_is_still_good(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    await publish_numbers(acme, range(5))
    position = await database.LIVE.run(stream.position, acme)
    await database.LIVE.run(lambda: list(stream.prune(acme.pk, 3)))
    socket = await sockets.open(alice, query=f"since={position.cursor_at(3)}")
    assert numbers(events_of(await socket.until("synced"))) == [3, 4]


async def test_cursor_of_one_organisation_is_a_reset_at_another(
    sockets: Sockets, dave: User, acme: Organization, globex: Organization
) -> None:
    await publish_numbers(acme, range(5))
    await publish_numbers(globex, range(5))
    foreign = (await database.LIVE.run(stream.position, acme)).cursor_at(0)
    frames = await (await sockets.open(dave, "globex", f"since={foreign}")).until("synced")
    assert [frame["type"] for frame in frames] == ["welcome", "reset", "synced"]


async def test_removed_member_is_refused_with_an_old_cursor(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    cursor = (await (await sockets.open(alice)).frame())["cursor"]
    await database.LIVE.run(Membership.objects.filter(user=alice).delete)
    assert await sockets.refused(alice, query=f"since={cursor}") == 4403


# ------------------------------------------------------------------------------------------- what clients send


async def test_ping_is_answered_with_the_cursor_reached(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    socket = await (await sockets.open(alice)).synced()
    await publish_event(acme)
    event = await socket.frame()
    assert await socket.ask({"type": "ping"}) == {"type": "pong", "cursor": event["cursor"]}


async def test_client_that_used_to_ping_and_falls_silent_is_closed_4408(
    sockets: Sockets, alice: User, bob: User, configure: Configure
) -> None:
    configure(HEARTBEAT_SECONDS=0.1, POLL_SECONDS=0.05)
    quiet = await (await sockets.open(bob)).synced()  # never pings, as a client of another make
    socket = await (await sockets.open(alice)).synced()
    assert (await socket.ask({"type": "ping"}))["type"] == "pong"
    assert await socket.close_code() == 4408
    assert (await quiet.ask({"type": "ping"}))["type"] == "pong"


MALFORMED = {
    "no JSON": "{",
    "empty": "",
    "blank": " ",
    "array": "[]",
    "number": "1",
    "null": "null",
    "text": '"ping"',
    "no type": "{}",
    "type that is a number": '{"type": 5}',
    "type that is null": '{"type": null}',
    "type of 101 letters": json.dumps({"type": "x" * 101}),
    "two objects": '{"type": "ping"} {"type": "ping"}',
    "5,000 levels": "[" * 5000 + "]" * 5000,
    "5,000 levels inside": '{"type": "say", "a": ' + "[" * 5000 + "]" * 5000 + "}",
    "100,000 levels": "[" * 100_000 + "]" * 100_000,
    "100,000 levels unclosed": '{"type": "say", "a": ' + '{"a":' * 100_000,
    "integer of 5,000 digits": '{"type": "say", "n": ' + "9" * 5000 + "}",
    "integer beyond a browser's": '{"type": "say", "n": 9007199254740992}',
    "1e400": '{"type": "say", "n": 1e400}',
    "NaN": '{"type": "say", "n": NaN}',
    "Infinity": '{"type": "say", "n": -Infinity}',
    "NUL": '{"type": "say", "n": "\\u0000"}',
    "raw NUL": '{"type": "say", "n": "\x00"}',
    "lone surrogate": '{"type": "say", "n": "\\ud800"}',
    "raw lone surrogate": '{"type": "say", "n": "\ud800"}',
    "lone surrogate in a key": '{"type": "say", "\\udfff": 1}',
}


class Chat(NotificationsConsumer):
    """A host's consumer with a command, whose members are looked at."""

    @command("say")
    async def say(self, message: Frame) -> None:
        await self.send_json({"type": "said", "n": len(message["a"])})


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
async def test_malformed_message_gets_one_error_and_the_socket_lives(
    sockets: Sockets, alice: User, configure: Configure, text: str
) -> None:
    configure(MAX_MESSAGE_BYTES=2_000_000, SOCKET_BYTE_RATE=None, USER_BYTE_RATE=None)
    socket = await (await sockets.open(alice, application=routed(Chat))).synced()
    await socket.send_text(text)
    error = await socket.frame()
    assert (error["type"], error["error"]["code"]) == ("error", "bad_request")
    assert len(error["error"]["message"]) < 300
    assert await socket.is_alive()


async def test_too_many_malformed_messages_close_with_4400(sockets: Sockets, alice: User) -> None:
    socket = await (await sockets.open(alice)).synced()
    for _ in range(11):
        await socket.send_text("{")
    for _ in range(10):
        assert (await socket.frame())["error"]["code"] == "bad_request"
    assert await socket.close_code() == 4400


async def test_message_over_the_limit_closes_with_4413(sockets: Sockets, alice: User) -> None:
    socket = await (await sockets.open(alice)).synced()
    await socket.send_text(json.dumps({"type": "ping", "filler": "x" * 16_384}))
    assert await socket.close_code() == 4413


async def test_message_of_the_very_limit_is_taken_and_is_counted_in_bytes(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    text = '{"type": "ping", "filler": "äöü"}'
    configure(MAX_MESSAGE_BYTES=len(text.encode()))
    socket = await (await sockets.open(alice)).synced()
    await socket.send_text(text)
    assert (await socket.frame())["type"] == "pong"
    await socket.send_text(text.replace(":", ": "))
    assert await socket.close_code() == 4413


async def test_too_many_messages_get_errors_and_then_close_with_4429(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    configure(SOCKET_RATE=Rate(1, NEVER, burst=2))
    socket = await (await sockets.open(alice)).synced()
    for _ in range(2 + 60 + 1):
        await socket.send_json_to({"type": "ping"})
    answers = [await socket.frame() for _ in range(2 + 60)]
    assert [answer["type"] for answer in answers] == ["pong"] * 2 + ["error"] * 60
    assert {answer["error"]["code"] for answer in answers[2:]} == {"rate_limited"}
    assert await socket.close_code() == 4429


async def test_binary_frame_closes_with_1003(sockets: Sockets, alice: User) -> None:
    socket = await (await sockets.open(alice)).synced()
    await socket.send_to(bytes_data=b'{"type": "ping"}')
    assert await socket.close_code() == 1003


async def test_closed_socket_gets_nothing_more(sockets: Sockets, alice: User, acme: Organization) -> None:
    beside = await (await sockets.open(alice)).synced()
    socket = await (await sockets.open(alice)).synced()
    await socket.send_to(bytes_data=b"1")
    await socket.close_code()
    await socket.send_json_to({"type": "ping"})
    await publish_event(acme)
    await beside.next_events(1)
    assert await socket.receive_nothing()


@pytest.mark.parametrize(
    "type",
    ["nonsense", "welcome", "batch", "close", "send_json", "_take", "__class__", "websocket.disconnect"],
)
async def test_message_of_unknown_type_gets_an_error(sockets: Sockets, alice: User, type: str) -> None:
    socket = await (await sockets.open(alice)).synced()
    error = (await socket.ask({"type": type, "cursor": "x", "code": 1000}))["error"]
    assert error["code"] == "unknown_type"
    assert await socket.is_alive()


async def test_organisation_named_in_a_message_is_ignored(
    sockets: Sockets, dave: User, acme: Organization, globex: Organization
) -> None:
    socket = await sockets.open(dave)
    cursor = (await socket.until("synced"))[-1]["cursor"]
    pong = await socket.ask(
        {"type": "ping", "org": "globex", "org_slug": "globex", "organization": id_on_the_wire(globex)}
    )
    assert pong == {"type": "pong", "cursor": cursor}
    await publish_event(globex, of="globex")
    await publish_event(acme, of="acme")
    assert (await socket.frame())["of"] == "acme"


async def test_ack_of_a_cursor_that_was_sent_is_taken_silently(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    socket = await (await sockets.open(alice)).synced()
    await publish_event(acme)
    event = await socket.frame()
    await socket.send_json_to({"type": "ack", "cursor": event["cursor"]})
    assert await socket.is_alive()


@pytest.mark.parametrize("cursor", ["foreign", "beyond", "1.5", "x.1", "", 1, None, ["a"], "a" * 10_000])
async def test_ack_of_what_was_not_sent_gets_an_error(
    sockets: Sockets, alice: User, acme: Organization, cursor: Any
) -> None:
    socket = await sockets.open(alice)
    epoch = (await socket.until("synced"))[-1]["cursor"].split(".")[0]
    cursor = (
        {"foreign": "0badc0de.0", "beyond": f"{epoch}.1"}.get(cursor, cursor)
        if isinstance(cursor, str)
        else cursor
    )
    error = await socket.ask({"type": "ack", "cursor": cursor})
    assert (error["type"], error["error"]["code"]) == ("error", "bad_request")
    assert await socket.is_alive()


# ---------------------------------------------------------------------------------------------------- commands


class Echo:
    """Commands of a host's mixin."""

    @command("echo")
    async def echo(self: Any, message: Frame) -> None:
        await self.send_json({"type": "echoed", "text": message["text"]})


class Chatty(Echo, OrgConsumer):
    """Commands of a host's consumer."""

    started = asyncio.Event()
    release = asyncio.Event()

    @command("fail")
    async def fail(self, message: Frame) -> None:
        raise RuntimeError(f"the secret is {message['secret']}")

    @command("refuse")
    async def refuse(self, message: Frame) -> None:
        raise MessageError("this room is closed", code="room_closed", since=7)

    @command("wait")
    async def wait(self, message: Frame) -> None:
        Chatty.started.set()
        await Chatty.release.wait()

    @command("leave")
    async def leave(self, message: Frame) -> None:
        await self.close(4001)

    async def unmarked(self, message: Frame) -> None:
        raise AssertionError("called from the wire")


class ChattyHeir(Chatty):
    """A subclass, where `echo` is overridden without being marked again."""

    async def echo(self, message: Frame) -> None:
        await self.send_json({"type": "echoed", "text": message["text"].upper()})


@pytest.fixture
async def chatty(sockets: Sockets, alice: User) -> Socket:
    Chatty.started, Chatty.release = asyncio.Event(), asyncio.Event()
    return await (await sockets.open(alice, application=routed(Chatty))).synced()


async def test_command_of_a_mixin_is_carried_out(chatty: Socket) -> None:
    text = "ä\u2028\ufeff 👩‍👩‍👧 \U0001d518 </script>\x1b\r\n\x7f"
    assert await chatty.ask({"type": "echo", "text": text}) == {"type": "echoed", "text": text}


async def test_command_is_the_subclass_s_where_that_overrides_it(sockets: Sockets, alice: User) -> None:
    socket = await (await sockets.open(alice, application=routed(ChattyHeir))).synced()
    assert await socket.ask({"type": "echo", "text": "hi"}) == {"type": "echoed", "text": "HI"}


async def test_commands_are_carried_out_in_order(chatty: Socket) -> None:
    for number in range(10):
        await chatty.send_json_to({"type": "echo", "text": str(number)})
    assert [(await chatty.frame())["text"] for _ in range(10)] == [str(number) for number in range(10)]


async def test_failing_command_gets_an_error_without_the_exception_s_text(chatty: Socket) -> None:
    error = await chatty.ask({"type": "fail", "secret": "4711"})
    assert (error["type"], error["error"]["code"]) == ("error", "internal_error")
    assert "4711" not in str(error)
    assert await chatty.is_alive()


async def test_refusing_command_gets_its_own_error(chatty: Socket) -> None:
    error = await chatty.ask({"type": "refuse"})
    assert error == {
        "type": "error",
        "error": {"since": 7, "code": "room_closed", "message": "this room is closed"},
    }


async def test_error_repeats_the_ref_of_the_message_that_failed(chatty: Socket) -> None:
    for frame in ({"type": "refuse"}, {"type": "fail", "secret": "x"}, {"type": "unheard of"}):
        error = await chatty.ask({**frame, "ref": "m-1"})
        assert (error["type"], error["ref"]) == ("error", "m-1")
    assert "ref" not in await chatty.ask({"type": "refuse", "ref": ["m-1"]})


async def test_error_of_a_message_that_came_too_fast_repeats_its_ref(
    sockets: Sockets, alice: User, configure: Configure
) -> None:
    configure(SOCKET_RATE=Rate(1, NEVER, burst=1))
    socket = await (await sockets.open(alice)).synced()
    await socket.ask({"type": "ping"})
    error = await socket.ask({"type": "ping", "ref": 3})
    assert (error["ref"], error["error"]["code"]) == (3, "rate_limited")


class Roomy(Chatty):
    """A consumer that takes longer messages than others."""

    max_message_bytes = 65_536


async def test_consumer_with_a_limit_of_its_own_answers_what_is_longer_with_an_error(
    sockets: Sockets, alice: User
) -> None:
    socket = await sockets.open(alice, application=routed(Roomy))
    assert (await socket.frame())["limits"]["message_bytes"] == 65_536
    await socket.synced()
    empty = json.dumps({"type": "echo", "ref": 1, "text": ""})
    assert (await socket.ask({"type": "echo", "text": "x" * 60_000}))["type"] == "echoed"
    await socket.send_text(empty[:-2] + "x" * (65_537 - len(empty)) + empty[-2:])
    error = await socket.frame()
    about = {"code": "too_long", "limit": 65_536, "length": 65_537, "unit": "bytes"}
    assert error["ref"] == 1
    assert error["error"] == {**about, "message": "this message has 65537 bytes; at most 65536 are allowed"}
    assert await socket.is_alive()


@pytest.mark.parametrize("size", [16_384, 65_536])
@pytest.mark.parametrize("text", ['{"type": "ping", "x": "%s"}', '{"type": "nothing", "x": "%s"}', "[%s"])
async def test_what_is_longer_and_no_command_closes_with_4413(
    sockets: Sockets, alice: User, text: str, size: int
) -> None:
    socket = await (await sockets.open(alice, application=routed(Roomy))).synced()
    await socket.send_text(text % ("x" * size))
    assert (await socket.receive_output())["code"] == 4413


@pytest.mark.parametrize("type", ["unmarked", "send_json", "close", "disconnected", "commands", "__init__"])
async def test_method_that_is_no_command_is_not_called(chatty: Socket, type: str) -> None:
    assert (await chatty.ask({"type": type}))["error"]["code"] == "unknown_type"
    assert await chatty.is_alive()


async def test_command_that_takes_long_does_not_delay_pongs(chatty: Socket) -> None:
    await chatty.send_json_to({"type": "wait"})
    await Chatty.started.wait()
    assert await chatty.is_alive()


async def test_commands_over_the_queue_s_bound_are_refused(chatty: Socket) -> None:
    await chatty.send_json_to({"type": "wait"})
    await Chatty.started.wait()
    for _ in range(17):
        await chatty.send_json_to({"type": "echo", "text": "x"})
    assert (await chatty.frame())["error"]["code"] == "rate_limited"
    Chatty.release.set()
    assert [(await chatty.frame())["type"] for _ in range(16)] == ["echoed"] * 16


async def test_command_that_closes_ends_those_that_wait(chatty: Socket) -> None:
    for frame in ({"type": "wait"}, {"type": "leave"}, {"type": "wait"}):
        await chatty.send_json_to(frame)
    await Chatty.started.wait()
    Chatty.started.clear()
    Chatty.release.set()
    assert await chatty.close_code() == 4001
    await chatty.disconnect()
    assert not Chatty.started.is_set()


@pytest.mark.parametrize("name", ["ping", "ack", "welcome", "batch", "error"])
def test_command_with_the_name_of_a_frame_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        command(name)


# ------------------------------------------------------------------------------------------------------- hooks


class Hooked(OrgConsumer):
    """Notes what it is called with."""

    codes: list[int] = []

    def allow(self, user: Any, access: Access) -> bool:
        return user.username == "alice" and access.role == "member"

    async def connected(self) -> None:
        await self.send_json({"type": "hello", "name": self.user.username, "role": self.access.role})

    async def disconnected(self, code: int) -> None:
        self.codes.append(code)

    def render(self, event: Frame) -> Frame | None:
        return None if event.get("hidden") else {**event, "seen_by": self.user.username}


class Failing(Hooked):
    """Fails when the connection stands."""

    async def connected(self) -> None:
        raise RuntimeError("a bug of the host")


@pytest.fixture
def codes() -> list[int]:
    """The codes that `disconnected` is called with."""
    Hooked.codes = []
    return Hooked.codes


@pytest.fixture
async def hooked(sockets: Sockets, alice: User) -> Socket:
    return await sockets.open(alice, application=routed(Hooked))


async def test_member_whom_the_host_does_not_allow_is_refused(sockets: Sockets, bob: User) -> None:
    assert await sockets.refused(bob, application=routed(Hooked)) == 4403


async def test_member_is_greeted_by_the_host_after_welcome(hooked: Socket) -> None:
    frames = await hooked.until("hello")
    assert frames[0]["type"] == "welcome"
    assert frames[-1] == {"type": "hello", "name": "alice", "role": "member"}


async def test_host_learns_the_code_that_the_client_closed_with(hooked: Socket, codes: list[int]) -> None:
    await hooked.disconnect(1001)
    assert codes == [1001]


async def test_host_learns_the_code_that_the_server_closed_with(hooked: Socket, codes: list[int]) -> None:
    await hooked.send_to(bytes_data=b"1")
    await hooked.close_code()
    await hooked.disconnect(1006)
    assert codes == [1003]


async def test_host_cleans_up_when_the_server_cancels(hooked: Socket, codes: list[int]) -> None:
    await hooked.until("hello")
    hooked.future.cancel()
    await eventually(lambda: codes == [1006])
    assert hooked.future.cancelled()


async def test_host_cleans_up_when_its_own_code_fails(
    sockets: Sockets, alice: User, codes: list[int]
) -> None:
    socket = await sockets.open(alice, application=routed(Failing))
    with pytest.raises(RuntimeError, match="a bug of the host"):
        await socket.wait()
    assert len(codes) == 1


async def test_refused_client_makes_no_hook_run(sockets: Sockets, bob: User, codes: list[int]) -> None:
    socket = await sockets.knock(bob, application=routed(Hooked))
    await socket.connect()
    await socket.disconnect()
    assert codes == []


async def test_connection_that_has_ended_is_no_longer_served(
    hooked: Socket, acme: Organization, codes: list[int]
) -> None:
    await hooked.until("hello")
    feed = get_hub().feed(acme.pk)
    assert feed is not None
    assert len(feed.connections) == 1
    hooked.future.cancel()
    await eventually(lambda: codes)
    assert not feed.connections


async def test_live_event_is_rendered_by_the_host(hooked: Socket, acme: Organization) -> None:
    await hooked.until("hello")
    await publish_event(acme, hidden=True)
    await publish_event(acme, hidden=False)
    (event,) = await hooked.next_events(1)
    assert (event["hidden"], event["seen_by"]) == (False, "alice")


async def test_backlog_is_rendered_by_the_host(sockets: Sockets, alice: User, acme: Organization) -> None:
    for number in range(4):
        await publish_event(acme, number=number, hidden=number == 1)
    socket = await sockets.open(alice, query="last=4", application=routed(Hooked))
    events = events_of(await socket.until("synced"))
    assert [(event["number"], event["seen_by"]) for event in events] == [(n, "alice") for n in (0, 2, 3)]


# ------------------------------------------------------------------------------------------- the channel layer

GARBAGE: list[Any] = [
    {"type": "websocket.disconnect", "code": 1000},
    {"type": "websocket.close"},
    {"type": "_x"},
    {"type": "no.such.handler"},
    {"type": None},
    {"no": "type"},
    {"type": "orgrealtime.ring", "organization": 1, "user": 2},
    {"type": "orgrealtime.ring", "organization": "x" * 10_000_000},
    {"type": "orgrealtime.ring", "user": "1", "organization": ["1"]},
    {"type": "note", "cursor": "0badc0de.1", "forged": True},
]


@pytest.mark.parametrize("layer", ["default", "core"])
async def test_garbage_from_the_channel_layer_neither_closes_nor_shows(
    sockets: Sockets, alice: User, acme: Organization, configure: Configure, layer: str
) -> None:
    configure(CHANNEL_LAYER=layer, POLL_SECONDS=NEVER, IDLE_POLL_SECONDS=NEVER)
    socket = await (await sockets.open(alice)).synced()
    await settled()
    for message in GARBAGE:
        await get_channel_layer(layer).group_send(bell.group(acme.pk), message)
        await get_channel_layer(layer).group_send(bell.EVERYONE, message)
    await database.LIVE.run(
        NotificationEvent.objects.create, organization=acme, type="note", payload={"n": 1}
    )
    ring = {"type": bell.MESSAGE_TYPE, "organization": str(acme.pk)}
    await get_channel_layer(layer).group_send(bell.group(acme.pk), ring)
    assert (await socket.frame())["n"] == 1


# ------------------------------------------------------------------------------------------------ query counts


@pytest.fixture
def quiet(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that asks the database only when it is told to."""

    async def nothing(self: Hub) -> None:
        pass

    monkeypatch.setattr(Hub, "_poll", nothing)
    configure(POLL_SECONDS=NEVER, IDLE_POLL_SECONDS=NEVER, ACCESS_CHECK_SECONDS=NEVER)


@pytest.mark.parametrize("query", ["", "last=100", "since={}"])
async def test_connecting_costs_at_most_five_queries(
    sockets: Sockets,
    alice: User,
    bob: User,
    acme: Organization,
    quiet: None,
    statements: list[str],
    query: str,
    topic_queries: int,
) -> None:
    await publish_numbers(acme, range(100))
    await (await sockets.open(bob)).synced()
    await settled()
    cursor = (await database.LIVE.run(stream.position, acme)).cursor_at(0)
    socket = await sockets.knock(alice, query=query.format(cursor))
    statements.clear()
    await socket.connect()
    frames = await socket.until("synced")
    assert len(events_of(frames)) == (100 if query else 0)
    assert 0 < len(statements) <= 5 + topic_queries, statements


async def queries_of_an_event(socket: Socket, organization: Organization, statements: list[str]) -> int:
    await settled()
    statements.clear()
    await publish_event(organization)
    await socket.next_events(1)
    return len(statements)


async def test_live_event_costs_the_same_queries_for_1_and_for_200_sockets(
    sockets: Sockets,
    alice: User,
    acme: Organization,
    quiet: None,
    statements: list[str],
    configure: Configure,
) -> None:
    configure(CONNECTIONS_PER_USER=None)
    cookie = await database.LIVE.run(log_in, alice)
    one = await (await sockets.open(cookie=cookie)).synced()
    for_one = await queries_of_an_event(one, acme, statements)
    others = [await (await sockets.open(cookie=cookie)).synced() for _ in range(199)]
    for_many = await queries_of_an_event(one, acme, statements)
    for other in others:
        await other.next_events(1)
    assert for_one == for_many == 2, statements  # insert; number and read


async def test_acknowledging_a_long_way_is_not_counted_as_messages(
    sockets: Sockets, alice: User, acme: Organization, configure: Configure
) -> None:
    configure(SOCKET_RATE=Rate(2, 60), USER_RATE=Rate(2, 60))
    socket = await (await sockets.open(alice)).synced()
    for _ in range(5):
        await database.LIVE.run(publish_many, acme, 60)
        cursor = (await socket.next_events(60))[-1]["cursor"]
        await socket.send_json_to({"type": "ack", "cursor": cursor})
    assert await socket.is_alive()
    for _ in range(2):
        answer = await socket.ask({"type": "ping"})
    assert answer["error"]["code"] == "rate_limited"


async def test_only_the_members_that_are_used_are_looked_at(
    sockets: Sockets, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []
    monkeypatch.setattr(wire, "check_value", looked.append)
    socket = await (await sockets.open(alice, application=routed(Chat))).synced()
    stuffing = [[1] * 100] * 20
    assert (await socket.ask({"type": "ping", "a": stuffing}))["type"] == "pong"
    for kind in ("ack", "unheard_of"):
        assert (await socket.ask({"type": kind, "a": stuffing}))["type"] == "error"
    assert looked == []
    assert await socket.ask({"type": "say", "a": stuffing}) == {"type": "said", "n": 20}
    assert len(looked) == 1


def publish_many(acme: Organization, count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            publish(acme, "note", {"number": number})


@pytest.mark.parametrize("commands", [0, 3])
async def test_closed_connection_isnt_left_to_the_garbage_collector(
    sockets: Sockets, alice: User, commands: int
) -> None:
    seen: list[weakref.ref[OrgConsumer]] = []

    class Watched(NotificationsConsumer):
        async def connected(self) -> None:
            seen.append(weakref.ref(self))

        @command("slow")
        async def slow(self, message: Frame) -> None:
            is_begun.set()
            await asyncio.Event().wait()

    is_begun = asyncio.Event()
    gc.collect()
    gc.disable()
    try:
        socket = await sockets.open(alice, application=routed(Watched))
        await socket.synced()
        for _ in range(commands):
            await socket.send_json_to({"type": "slow"})
        if commands:
            await socket.ask({"type": "ping"})  # which is answered after all have been received
            await is_begun.wait()
        await socket.disconnect()
        await eventually(lambda: seen[0]() is None)
    finally:
        gc.enable()
