"""What is logged of connections, and what never is."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from channels.routing import URLRouter
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import path

from orgrealtime import publish
from orgrealtime.consumers import NotificationsConsumer, OrgConsumer, command
from orgrealtime.stream import database
from tests.conftest import Configure
from tests.host.models import Membership, Organization
from tests.sockets import Frame, Sockets, browser_headers, log_in, publish_event, routed
from tests.waiting import eventually

CLIENT = ("203.0.113.7", 54321)


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "orgrealtime")


def records(caplog: pytest.LogCaptureFixture, message: str) -> list[dict[str, Any]]:
    """The fields of the records with this message, their level among them."""
    return [vars(record) for record in caplog.records if record.message == message]


# --------------------------------------------------------------------------------------- opened, refused, closed


async def test_opened_connection_is_logged(
    sockets: Sockets, alice: User, acme: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await sockets.open(alice, scope={"client": CLIENT})
    welcome = await socket.frame()
    (record,) = records(caplog, "connection opened")
    assert (record["name"], record["levelname"]) == ("orgrealtime.connection", "INFO")
    fields = ("connection_id", "org_id", "org", "user_id", "client")
    assert tuple(record[field] for field in fields) == (
        welcome["connection_id"],
        str(acme.pk),
        "acme",
        str(alice.pk),
        "203.0.113.7",
    )


async def test_connection_closed_by_the_client_is_logged_with_its_counts(
    sockets: Sockets, alice: User, acme: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await sockets.open(alice)
    welcome = (await socket.until("synced"))[0]
    await publish_event(acme)
    await socket.next_events(1)
    await socket.disconnect(1001)
    (record,) = records(caplog, "connection closed")
    assert (record["name"], record["levelname"]) == ("orgrealtime.connection", "INFO")
    fields = ("connection_id", "code", "reason", "events")
    assert tuple(record[field] for field in fields) == (welcome["connection_id"], 1001, "by the client", 1)
    assert 0 <= record["seconds"] < 60


async def test_events_that_a_member_may_not_see_are_not_counted_for_it(
    sockets: Sockets, alice: User, bob: User, acme: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await (await sockets.open(bob)).synced()
    await publish_event(acme, to=[alice])
    await publish_event(acme)
    await socket.next_events(1)
    await socket.disconnect()
    assert [record["events"] for record in records(caplog, "connection closed")] == [1]


@pytest.mark.parametrize(
    ("messages", "code", "reason"),
    [
        ([{"bytes": b"1"}], 1003, "binary frame"),
        ([{"text": "x" * 20_000}], 4413, "message too large"),
        ([{"text": "{"}] * 11, 4400, "too many refused messages (bad_request)"),
    ],
)
async def test_connection_closed_by_the_server_is_logged_with_the_reason(
    sockets: Sockets,
    alice: User,
    caplog: pytest.LogCaptureFixture,
    messages: list[dict[str, Any]],
    code: int,
    reason: str,
) -> None:
    socket = await sockets.open(alice)
    for message in messages:
        await socket.send_input({"type": "websocket.receive", **message})
    await socket.close_code()
    await socket.disconnect(1006)
    assert [(record["code"], record["reason"]) for record in records(caplog, "connection closed")] == [
        (code, reason)
    ]


async def test_connection_whose_access_ended_is_logged_with_the_reason(
    sockets: Sockets, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await sockets.open(alice)
    await database.LIVE.run(Membership.objects.all().delete)
    await socket.close_code()
    await socket.disconnect(1006)
    assert [(record["code"], record["reason"]) for record in records(caplog, "connection closed")] == [
        (4403, "access ended")
    ]


@pytest.mark.parametrize(
    ("who", "query", "origin", "code", "reason"),
    [
        ("nobody", "", "http://testserver", 4401, "anonymous"),
        ("carol", "", "http://testserver", 4403, "no such organisation, or no access"),
        ("alice", "", "http://evil.example", 4403, "foreign origin"),
        ("alice", "", "null", 4403, "malformed origin"),
        ("alice", "", "", 4403, "cookie without origin"),
        ("alice", "last=0", "http://testserver", 4400, "malformed query"),
        ("alice", "since=1", "http://testserver", 4400, "malformed query"),
    ],
)
async def test_refused_connection_is_logged_once_with_the_reason(
    sockets: Sockets,
    alice: User,
    carol: User,
    caplog: pytest.LogCaptureFixture,
    who: str,
    query: str,
    origin: str,
    code: int,
    reason: str,
) -> None:
    user = {"alice": alice, "carol": carol}.get(who)
    headers = browser_headers(await database.LIVE.run(log_in, user) if user else "", origin)
    await sockets.refused(query=query, scope={"headers": headers, "client": CLIENT})
    (record,) = records(caplog, "connection refused")
    assert (record["name"], record["levelname"]) == ("orgrealtime.connection", "INFO")
    assert (record["code"], record["reason"], record["org"], record["client"]) == (
        code,
        reason,
        "acme",
        "203.0.113.7",
    )
    assert not records(caplog, "connection opened")


# --------------------------------------------------------------------------------------------- what is not logged

CANARY = "canary4711"


class Talkative(OrgConsumer):
    """Takes a message, and shows events in its own way."""

    @command("say")
    async def say(self, message: Frame) -> None:
        await self.send_json({"type": "said", "text": message["text"]})

    def render(self, event: Frame) -> Frame | None:
        return {**event, "seen_by": self.user.email}


def everything(caplog: pytest.LogCaptureFixture) -> str:
    """All that the records of this library hold, tracebacks too."""
    formatter = logging.Formatter()
    own = [record for record in caplog.records if record.name.startswith("orgrealtime")]
    return "\n".join(f"{formatter.format(record)} {vars(record)}" for record in own)


async def test_no_content_and_no_credential_is_logged_in_a_whole_session(
    sockets: Sockets,
    alice: User,
    bob: User,
    carol: User,
    acme: Organization,
    configure: Configure,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def prepare() -> None:
        for user in (alice, bob, carol):
            user.email = f"{CANARY}@example.com"
            user.first_name = CANARY
            user.save()

    def spoil_a_row() -> None:
        with transaction.atomic(), connection.cursor() as cursor:  # or it is read before it is spoilt
            publish(acme, "note", {"secret": CANARY})
            cursor.execute("UPDATE orgrealtime_notificationevent SET payload = to_jsonb(%s::text)", [CANARY])

    def catch_up() -> None:
        client = Client()
        client.force_login(bob)
        for query in ({}, {"since": CANARY}, {"limit": CANARY}, {"since": "0badc0de.1"}):
            client.get("/orgs/acme/notifications/", query, headers={"X-Canary": CANARY})

    await database.LIVE.run(prepare)
    cookie = await database.LIVE.run(log_in, alice)
    headers = [*browser_headers(f"{cookie}; theme={CANARY}"), (b"authorization", CANARY.encode())]
    scope = {"headers": headers, "client": CLIENT}
    socket = await (await sockets.open(scope=scope, application=routed(Talkative))).synced()
    await publish_event(acme, secret=CANARY)
    await publish_event(acme, to=[bob], secret=CANARY)
    for frame in ({"type": "say", "text": CANARY}, {"type": CANARY}, {"type": "ack", "cursor": CANARY}):
        await socket.send_json_to(frame)
    await socket.send_text(f'{{"type": "{CANARY}')
    await socket.until("said")
    await sockets.refused(carol, query=f"token={CANARY}")
    await sockets.refused(alice, query=f"since={CANARY}")
    foreign = browser_headers(cookie, f"http://{CANARY}.example")
    await sockets.refused(scope={"headers": foreign})
    await database.LIVE.run(catch_up)
    await database.LIVE.run(spoil_a_row)
    await eventually(lambda: records(caplog, "event skipped, its row can't be encoded"))
    await socket.send_text(CANARY * 10_000)
    await socket.close_code()
    await socket.disconnect(1006)
    log = everything(caplog)
    assert "connection opened" in log
    assert CANARY not in log
    assert cookie.partition("=")[2] not in log
    assert "alice" not in log


async def test_no_content_is_logged_where_the_checks_fail(
    sockets: Sockets, alice: User, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(ADAPTER="tests.test_consumers.BrokenAdapter")
    cookie = await database.LIVE.run(log_in, alice)
    await sockets.refused(query=f"canary={CANARY}", cookie=cookie)
    assert records(caplog, "a connection can't be checked")
    assert CANARY not in everything(caplog)
    assert cookie.partition("=")[2] not in everything(caplog)


async def test_line_breaks_in_a_name_make_no_line_of_the_log(
    sockets: Sockets, alice: User, caplog: pytest.LogCaptureFixture
) -> None:
    route = path("ws/orgs/<str:org_slug>/notifications/", NotificationsConsumer.as_asgi())
    await sockets.refused(
        alice,
        application=URLRouter([route]),
        scope={"path": "/ws/orgs/a\r\nINFO forged\x1b[31m/notifications/"},
    )
    (record,) = records(caplog, "connection refused")
    assert logging.Formatter("%(message)s").format(caplog.records[-1]) == "connection refused"
    assert record["org"] == "a\r\nINFO forged\x1b[31m"
