"""Event streams, for browsers without WebSockets: the consumer's frames as Server-Sent Events."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Self

import pytest
from asgiref.sync import markcoroutinefunction
from django.contrib.auth.models import User
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from orgrealtime import sse, stream
from orgrealtime.access import Access
from orgrealtime.asgi import realtime
from orgrealtime.concurrency import threads as pools
from orgrealtime.consumers import NotificationsConsumer
from orgrealtime.delivery.hub import close_hub, get_hub
from orgrealtime.limits import Rate
from orgrealtime.policy import Policy
from orgrealtime.protocol import wire
from orgrealtime.routing import routes, websocket_urlpatterns
from orgrealtime.stream import database
from tests.conftest import Configure
from tests.host.models import Membership, Organization
from tests.sockets import Communicator, Frame, Sockets, events_of, log_in, publish_event
from tests.waiting import eventually, limit

pytestmark = pytest.mark.django_db(transaction=True)

APPLICATION: Any = realtime(websocket_urlpatterns, http=get_asgi_application())
PATH = "/orgs/acme/notifications/stream/"


class Event:
    """One event as a browser reads it (WHATWG HTML, section 9.2.6)."""

    def __init__(self, text: str) -> None:
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        self.name = fields.get("event", "message")
        self.id = fields.get("id")
        self.retry = int(fields["retry"]) if "retry" in fields else None
        self.data: Frame = json.loads(fields["data"])


class Page:
    """A page's EventSource without a server."""

    def __init__(
        self, user_cookie: str, query: str, headers: dict[str, str], path: str, application: Any
    ) -> None:
        self._inner = application
        given = {"host": "testserver", "cookie": user_cookie, **headers}
        scope = {
            "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "server": ("testserver", 80),
            "client": ("127.0.0.1", 5),
            "headers": [(name.encode(), value.encode()) for name, value in given.items() if value],
        }  # fmt: skip
        self.reads = asyncio.Event()
        self.reads.set()
        self.communicator = Communicator(self._application, scope)
        self.received = self._text = ""

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_to_who_reads(message: Any) -> None:
            await self.reads.wait()
            await send(message)

        await self._inner(scope, receive, send_to_who_reads)

    async def begin(self) -> Self:
        await self.communicator.send_input({"type": "http.request", "body": b""})
        start = await self.communicator.receive_output()
        self.status: int = start["status"]
        self.headers = {name.decode().lower(): value.decode() for name, value in start["headers"]}
        return self

    async def body(self) -> Any:
        return json.loads((await self.communicator.receive_output())["body"])

    async def event(self) -> Event:
        while "\n\n" not in self._text:
            message = await self.communicator.receive_output()
            assert message.get("more_body"), "the response has ended"
            self._text += message["body"].decode()
            self.received += message["body"].decode()
        text, _, self._text = self._text.partition("\n\n")
        return Event(text)

    async def until(self, type: str) -> list[Frame]:
        frames = [(await self.event()).data]
        while frames[-1]["type"] != type:
            frames.append((await self.event()).data)
        return frames

    async def leave(self) -> None:
        await self.communicator.send_input({"type": "http.disconnect"})
        await self.communicator.wait()

    async def ends(self) -> bool:
        """Whether the response ends now, after what was read."""
        message = await self.communicator.receive_output()
        assert b"secret" not in message.get("body", b"")
        return not self._text and not message.get("body") and not message.get("more_body")


class Pages:
    def __init__(self) -> None:
        self._pages: list[Page] = []

    async def open(
        self,
        user: User | None = None,
        query: str = "",
        *,
        headers: dict[str, str] | None = None,
        path: str = PATH,
        application: Any = APPLICATION,
    ) -> Page:
        cookie = "" if user is None else await database.LIVE.run(log_in, user)
        page = Page(cookie, query, headers or {}, path, application)
        self._pages.append(page)
        return await page.begin()

    async def close(self) -> None:
        for page in self._pages:
            page.reads.set()
            with contextlib.suppress(asyncio.CancelledError):  # of a response that had to be given up
                await page.leave()


@pytest.fixture
async def pages(transactional_db: None) -> AsyncIterator[Pages]:
    pages = Pages()
    yield pages
    await pages.close()
    await close_hub()
    pools.close_all()


async def is_empty() -> bool:
    return await eventually(lambda: not list(get_hub().registry))


# ------------------------------------------------------------------------------------------------------- frames


async def test_member_gets_the_frames_of_the_socket_with_their_cursors(
    pages: Pages, alice: User, bob: User, acme: Organization
) -> None:
    await publish_event(acme, "before")
    start = (await database.LIVE.run(stream.position, acme)).cursor_at(0)
    page = await pages.open(alice, f"since={start}")
    assert (page.status, page.headers["content-type"]) == (200, "text/event-stream")
    assert page.headers["cache-control"] == "no-store, no-transform"
    events = [await page.event() for _ in range(3)]
    assert [event.data["type"] for event in events] == ["welcome", "before", "synced"]
    assert [event.id for event in events] == [event.data["cursor"] for event in events]
    assert 1_000 <= (events[0].retry or 0) <= 4_000
    assert [event.retry for event in events[1:]] == [None, None]
    await publish_event(acme, "live", text="ä\n\u2028 id: x")
    live = await page.event()
    assert (live.name, live.data["type"], live.data["text"]) == ("message", "live", "ä\n\u2028 id: x")
    await publish_event(acme, "hers", to=[bob])
    assert (await page.event()).data["type"] == "cursor"


async def test_streams_of_a_user_are_counted_as_requests_and_sockets_are_not(
    pages: Pages, sockets: Sockets, alice: User, bob: User, configure: Configure
) -> None:
    configure(REQUEST_RATE=Rate(2, 86_400))
    for _ in range(3):
        await (await sockets.open(alice)).synced()
    assert [(await pages.open(alice)).status for _ in range(2)] == [200, 200]
    refused = await pages.open(alice)
    assert (refused.status, (await refused.body())["error"]["code"]) == (429, "rate_limited")
    assert int(refused.headers["retry-after"]) > 0
    assert (await pages.open(bob)).status == 200


async def test_browser_that_comes_back_by_itself_goes_on_at_its_last_event(
    pages: Pages, alice: User, acme: Organization
) -> None:
    for number in range(4):
        await publish_event(acme, number=number)
    position = await database.LIVE.run(stream.position, acme)
    headers = {"last-event-id": position.cursor_at(2)}
    page = await pages.open(alice, f"since={position.cursor_at(0)}&last=3", headers=headers)
    events = events_of(await page.until("synced"))
    assert [event["number"] for event in events] == [2, 3]


async def test_reset_has_no_id_so_that_it_comes_again(pages: Pages, alice: User, acme: Organization) -> None:
    page = await pages.open(alice, "since=0badc0de.7")
    welcome, reset = await page.event(), await page.event()
    assert (welcome.id, reset.data["type"], reset.id) == ("0badc0de.7", "reset", None)


async def test_page_hears_that_its_connection_lives(pages: Pages, alice: User, configure: Configure) -> None:
    configure(HEARTBEAT_SECONDS=0.1)
    page = await pages.open(alice)
    await page.until("synced")
    assert (await page.event()).data["type"] == "pong"
    assert (await page.event()).data["type"] == "pong"


# ------------------------------------------------------------------------------------------------------- access


async def test_anonymous_gets_401_and_a_json_body(pages: Pages, acme: Organization) -> None:
    page = await pages.open()
    assert (page.status, page.headers["content-type"]) == (401, "application/json")
    assert (await page.body())["error"]["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "path", ["/orgs/globex/notifications/stream/", "/orgs/nowhere/notifications/stream/"]
)
async def test_stranger_gets_one_answer_for_a_foreign_and_an_unknown_organisation(
    pages: Pages, alice: User, globex: Organization, path: str
) -> None:
    page = await pages.open(alice, path=path)
    assert page.status == 403
    assert (await page.body())["error"]["message"] == "no such organisation, or not a member of it"


@pytest.mark.parametrize(
    "headers", [{"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}]
)
async def test_page_of_another_site_gets_403(pages: Pages, alice: User, headers: dict[str, str]) -> None:
    assert (await pages.open(alice, headers=headers)).status == 403


@pytest.mark.parametrize("headers", [{"origin": "http://testserver"}, {"sec-fetch-site": "same-origin"}])
async def test_own_page_is_let_in(pages: Pages, alice: User, headers: dict[str, str]) -> None:
    assert (await pages.open(alice, headers=headers)).status == 200


@pytest.mark.parametrize("query", ["since=x", "last=0", "last=5&since=0badc0de.1"])
async def test_malformed_query_gets_400(pages: Pages, alice: User, query: str) -> None:
    assert (await pages.open(alice, query)).status == 400


async def test_connections_count_with_those_of_sockets(
    pages: Pages, alice: User, configure: Configure
) -> None:
    configure(CONNECTIONS_PER_USER=1)
    await pages.open(alice)
    assert (await pages.open(alice)).status == 429


async def test_access_that_ends_ends_the_response_with_its_code(
    pages: Pages, alice: User, acme: Organization
) -> None:
    page = await pages.open(alice)
    await page.until("synced")
    await database.LIVE.run(lambda: Membership.objects.get(user=alice).delete())
    event = await page.event()
    assert (event.name, event.id, event.data) == ("close", None, {"type": "close", "code": 4403})
    assert await page.ends()
    assert await is_empty()


# ------------------------------------------------------------------------------------------------------- ending


async def test_page_that_leaves_leaves_nothing_behind(pages: Pages, alice: User, acme: Organization) -> None:
    page = await pages.open(alice)
    await page.until("synced")
    await page.leave()
    assert await is_empty()


async def test_page_that_leaves_while_it_is_written_to_leaves_nothing_behind(
    pages: Pages, alice: User, acme: Organization
) -> None:
    page = await pages.open(alice)
    await page.until("synced")
    for number in range(5):
        await publish_event(acme, number=number)
    await page.leave()
    assert await is_empty()


async def test_draining_server_sends_pages_elsewhere(pages: Pages, alice: User, configure: Configure) -> None:
    configure(DRAIN_SECONDS=1)
    page = await pages.open(alice)
    await page.until("synced")
    draining = asyncio.create_task(get_hub().drain())
    going_away = await page.event()
    assert going_away.data["type"] == "going_away"
    # A proxy answers 502 until the next server listens, and that would end an EventSource for good.
    assert going_away.retry is not None
    assert going_away.retry >= 6_000
    event = await page.event()
    assert (event.name, event.data) == ("close", {"type": "close", "code": 1012})
    await draining


class Failing(NotificationsConsumer):
    """A host's consumer that fails once it is connected."""

    async def connected(self) -> None:
        raise RuntimeError("secret")


async def test_consumer_that_fails_ends_the_response(
    pages: Pages, alice: User, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ROOT_URLCONF = tuple(routes(Failing).http[0])
    page = await pages.open(alice)
    assert (await page.event()).data["type"] == "welcome"
    while not await page.ends():
        pass
    assert "an event stream failed" in caplog.text
    assert await is_empty()


@pytest.mark.parametrize(
    "middleware", ["django.middleware.gzip.GZipMiddleware", "django.middleware.http.ConditionalGetMiddleware"]
)
async def test_middleware_of_the_host_leaves_the_stream_readable(
    pages: Pages, alice: User, acme: Organization, settings: Settings, middleware: str
) -> None:
    settings.MIDDLEWARE = [middleware, *settings.MIDDLEWARE]
    application = realtime(websocket_urlpatterns, http=get_asgi_application())
    page = await pages.open(alice, headers={"accept-encoding": "gzip"}, application=application)
    await page.until("synced")
    await publish_event(acme, text="readable " * 100)
    assert (await page.event()).data["text"] == "readable " * 100


class Replace:
    """Middleware that answers by itself, whatever the view has answered."""

    sync_capable, async_capable = False, True

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> HttpResponse:
        await self._get_response(request)
        return HttpResponse("another")


async def test_consumer_whose_response_is_not_used_ends(
    pages: Pages, alice: User, acme: Organization, settings: Settings, configure: Configure
) -> None:
    configure(SEND_TIMEOUT_SECONDS=0.2)
    settings.MIDDLEWARE = ["tests.test_sse.Replace", *settings.MIDDLEWARE]
    await pages.open(alice, application=realtime(websocket_urlpatterns, http=get_asgi_application()))
    for number in range(3):
        await publish_event(acme, number=number)
    assert await is_empty()


def test_server_without_asgi_gets_501(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.get(PATH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (501, "needs_asgi")


async def test_page_that_reads_nothing_is_closed_as_a_slow_consumer(
    pages: Pages, alice: User, acme: Organization, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(SEND_TIMEOUT_SECONDS=0.2)
    caplog.set_level("INFO", "orgrealtime")
    page = await pages.open(alice)
    page.reads.clear()
    async with limit("the page is closed", seen=caplog.messages):
        while "connection closed" not in caplog.messages:  # however many events become one frame
            await publish_event(acme)
    assert await is_empty()
    assert [record.code for record in caplog.records if record.msg == "connection closed"] == [4408]  # type: ignore[attr-defined]


# What a reader of lines takes for the end of one: `str.splitlines`, and what Java, Go and C# call a line terminator.
BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
FORGED = "a{0}event: close{0}data: {{}}{0}{0}id: x{0}b"


class Shows(Policy):
    """Adds what others have written to each event."""

    def render(self, event: Frame, access: Access) -> Frame | None:
        return {**event, "shown": TEXT}


class Talkative(NotificationsConsumer):
    """Sends what others have written."""

    policy = Shows

    async def connected(self) -> None:
        await self.send_json({"type": "greeting", "text": TEXT})


TEXT = "".join(FORGED.format(each) for each in BREAKS)


async def test_text_can_forge_no_line_for_any_reader(
    pages: Pages, settings: Settings, alice: User, acme: Organization
) -> None:
    settings.ROOT_URLCONF = tuple(routes(Talkative).http[0])
    page = await pages.open(alice)
    await publish_event(acme, "note", **{"text": TEXT, TEXT.replace("\n", " "): 1})
    await page.until("note")
    lines = page.received.splitlines()
    assert {line.partition(":")[0] for line in lines} == {"id", "data", "retry", ""}
    frames = [json.loads(line[6:]) for line in lines if line.startswith("data: ")]
    note = next(frame for frame in frames if frame["type"] == "note")
    greeting = next(frame for frame in frames if frame["type"] == "greeting")
    assert note["text"] == note["shown"] == greeting["text"] == TEXT
    assert TEXT.replace("\n", " ") in note


@given(st.text(st.sampled_from(BREAKS + "aé\u2027\u202a"), max_size=20))
def test_event_is_one_line_of_data_that_says_what_was_sent(text: str) -> None:
    frame = {"type": "note", "cursor": "0a1b2c3d.7", "text": text}
    for written in (wire.encode(frame), json.dumps(frame, ensure_ascii=False), json.dumps(frame, indent=1)):
        id_line, data, *rest = sse._event(written).splitlines()
        assert (id_line, rest) == ("id: 0a1b2c3d.7", [""])
        assert json.loads(data.removeprefix("data: ")) == frame


# -------------------------------------------------------------------------------------------------- how many there are


async def test_streams_over_the_limit_of_the_process_are_sent_elsewhere(
    pages: Pages, alice: User, bob: User, acme: Organization, configure: Configure
) -> None:
    configure(MAX_EVENT_STREAMS=2)
    held = [await pages.open(user) for user in (alice, bob)]
    refused = await pages.open(bob)
    assert (refused.status, refused.headers["retry-after"]) == (503, "2")
    assert (await refused.body())["error"]["code"] == "overloaded"
    await held[0].leave()
    await eventually(lambda: len(sse._open) == 1)
    assert (await pages.open(bob)).status == 200


async def test_streams_over_the_limit_are_only_logged_in_a_dry_run(
    pages: Pages, alice: User, acme: Organization, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(MAX_EVENT_STREAMS=1, LIMITS_DRY_RUN=True)
    assert [(await pages.open(alice)).status for _ in range(2)] == [200, 200]
    assert [vars(record)["limit"] for record in caplog.records if "limit" in vars(record)] == [
        "MAX_EVENT_STREAMS"
    ]
