"""The catch-up view."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connections
from django.test import Client, RequestFactory
from pytest_django.fixtures import Settings

from orgrealtime import publish, stream
from orgrealtime.access import Access
from orgrealtime.concurrency import threads
from orgrealtime.delivery.hub import close_hub, get_hub
from orgrealtime.errors import Refused
from orgrealtime.limits import Rate, admit_request_here
from orgrealtime.stream import database
from orgrealtime.views import CatchUpView
from tests.conftest import Configure
from tests.host.models import Membership, Organization
from tests.sockets import Frame, Sockets, events_of
from tests.stopwatch import Stopwatch
from tests.threads import lock_table, open_transaction, start_many

ACME, GLOBEX = "/orgs/acme/notifications/", "/orgs/globex/notifications/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def hers(client: Client, alice: User) -> Client:
    """Alice's browser."""
    client.force_login(alice)
    return client


def publish_numbers(organization: Organization, count: int) -> None:
    for number in range(count):
        publish(organization, "note", {"number": number})


def numbers(page: Any) -> list[int]:
    return [event["number"] for event in page["events"]]


def cursor_at(organization: Organization, seq: int) -> str:
    return stream.position(organization).cursor_at(seq)


# ------------------------------------------------------------------------------------------------------- pages


def test_member_gets_a_page_in_its_wire_shape(
    hers: Client, alice: User, bob: User, acme: Organization
) -> None:
    stored = publish(acme, "task_event", {"task_id": 7}, actor=bob)
    answer = hers.get(ACME, {"since": cursor_at(acme, 0)})
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/json")
    assert answer.json() == {
        "events": [
            {
                "type": "task_event",
                "cursor": cursor_at(acme, 1),
                "created_at": stored.created_at.isoformat().replace("+00:00", "Z"),
                "actor": bob.pk,
                "task_id": 7,
            }
        ],
        "cursor": cursor_at(acme, 1),
        "has_more": False,
        "user": {"id": alice.pk},
    }


def test_member_gets_the_newest_events_without_a_cursor(hers: Client, acme: Organization) -> None:
    publish_numbers(acme, 5)
    page = hers.get(ACME, {"limit": 2}).json()
    assert (numbers(page), page["cursor"], page["has_more"]) == ([3, 4], cursor_at(acme, 5), False)


def test_member_gets_at_most_a_hundred_events_by_default(hers: Client, acme: Organization) -> None:
    publish_numbers(acme, 101)
    assert numbers(hers.get(ACME).json()) == list(range(1, 101))
    page = hers.get(ACME, {"since": cursor_at(acme, 0)}).json()
    assert (numbers(page), page["has_more"]) == (list(range(100)), True)


def test_member_pages_to_the_end(hers: Client, acme: Organization) -> None:
    publish_numbers(acme, 7)
    page: Any = {"cursor": cursor_at(acme, 0), "has_more": True}
    pages = []
    while page["has_more"]:
        page = hers.get(ACME, {"since": str(page["cursor"]), "limit": "3"}).json()
        pages.append(numbers(page))
    assert pages == [[0, 1, 2], [3, 4, 5], [6]]
    assert page["cursor"] == cursor_at(acme, 7)


def test_last_page_that_is_full_has_no_more(hers: Client, acme: Organization) -> None:
    publish_numbers(acme, 3)
    page = hers.get(ACME, {"since": cursor_at(acme, 0), "limit": "3"}).json()
    assert (numbers(page), page["has_more"]) == ([0, 1, 2], False)


def test_member_who_missed_nothing_gets_an_empty_page(hers: Client, acme: Organization) -> None:
    publish_numbers(acme, 1)
    cursor = cursor_at(acme, 1)
    page = hers.get(ACME, {"since": cursor}).json()
    assert (page["events"], page["cursor"], page["has_more"]) == ([], cursor, False)


def test_organisation_without_events_gives_an_empty_page(hers: Client, acme: Organization) -> None:
    page = hers.get(ACME).json()
    assert (page["events"], page["cursor"], page["has_more"]) == ([], cursor_at(acme, 0), False)


def test_events_for_others_are_neither_shown_nor_counted(
    client: Client, alice: User, bob: User, acme: Organization
) -> None:
    publish_numbers(acme, 1)
    for _ in range(5):
        publish(acme, "note", {"secret": "for alice"}, to=alice)
    client.force_login(bob)
    page = client.get(ACME, {"since": cursor_at(acme, 0), "limit": "1"}).json()
    assert (numbers(page), page["cursor"], page["has_more"]) == ([0], cursor_at(acme, 6), False)
    assert numbers(client.get(ACME, {"limit": 5}).json()) == [0]


def test_head_request_has_no_body(hers: Client) -> None:
    answer = hers.head(ACME)
    assert (answer.status_code, answer.content) == (200, b"")


@pytest.mark.parametrize("since", ["", "cursor"])
def test_page_costs_at_most_seven_queries(
    hers: Client,
    acme: Organization,
    since: str,
    topic_queries: int,
    django_assert_max_num_queries: Callable[[int], Any],
) -> None:
    publish_numbers(acme, 10)
    start = cursor_at(acme, 0)
    query: dict[str, str] = {"since": start} if since else {}
    hers.get(ACME)  # what is asked once a minute
    with django_assert_max_num_queries(7 + topic_queries):
        assert len(hers.get(ACME, query).json()["events"]) == 10


def test_page_has_the_newest_events_though_requests_are_atomic(
    hers: Client, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    cursor = cursor_at(acme, 0)
    publish_numbers(acme, 3)
    assert numbers(hers.get(ACME, {"since": cursor}).json()) == [0, 1, 2]


async def test_member_gets_the_same_by_http_as_by_socket(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    def prepare() -> None:
        for number in range(30):
            to = [None, bob, alice, [alice, bob]][number % 4]
            publish(acme, "note", {"number": number, "text": "ä\u2028"}, actor=alice, to=to)
        client.force_login(bob)

    def read_all() -> list[Frame]:
        page: Any = {"cursor": start, "has_more": True}
        events: list[Frame] = []
        while page["has_more"]:
            page = client.get(ACME, {"since": page["cursor"], "limit": 4}).json()
            events += page["events"]
        return events

    client = Client()
    start = await database.LIVE.run(cursor_at, acme, 0)
    await database.LIVE.run(prepare)
    socket = await sockets.open(bob, query=f"since={start}")
    by_socket = events_of(await socket.until("synced"))
    assert [event["number"] for event in by_socket] == [n for n in range(30) if n % 4 != 2]
    assert await database.LIVE.run(read_all) == by_socket


# ---------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("query", "named"),
    [
        *(
            ({"since": since}, "since")
            for since in ("", "1", "1.5", "true", "-1", "x.1", "a" * 10_000, "\x00")
        ),
        *(({"limit": limit}, "limit") for limit in ("", "0", "-1", "501", "1e2", "ten", "٣", "9" * 5000)),
        ({"since": "abcdef01.1", "limit": "0"}, "limit"),
    ],
)
def test_malformed_query_gets_400_and_is_told_which_part(
    hers: Client, query: dict[str, str], named: str
) -> None:
    answer = hers.get(ACME, query)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "bad_request")
    assert named in error["message"]
    assert len(error["message"]) < 300


def test_anonymous_gets_401(client: Client, acme: Organization) -> None:
    answer = client.get(ACME)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthenticated")


def test_inactive_user_gets_401(hers: Client) -> None:
    User.objects.update(is_active=False)
    assert hers.get(ACME).status_code == 401


def test_stranger_gets_one_answer_for_a_foreign_and_an_unknown_organisation(
    client: Client, carol: User, acme: Organization
) -> None:
    client.force_login(carol)
    foreign, unknown = client.get(ACME), client.get("/orgs/nowhere/notifications/")
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "forbidden")
    assert (foreign.status_code, foreign.headers, foreign.content) == (
        unknown.status_code,
        unknown.headers,
        unknown.content,
    )


def test_removed_member_gets_403_with_an_old_cursor(hers: Client, acme: Organization) -> None:
    publish_numbers(acme, 3)
    cursor = hers.get(ACME, {"limit": 1}).json()["cursor"]
    Membership.objects.all().delete()
    answer = hers.get(ACME, {"since": cursor})
    assert (answer.status_code, "events" in answer.json()) == (403, False)


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_other_methods_get_405(hers: Client, method: str) -> None:
    answer = getattr(hers, method)(ACME)
    assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("reason", ["epoch", "ahead", "retention"])
def test_cursor_that_proves_nothing_gets_410_and_where_to_go_on(
    hers: Client, alice: User, acme: Organization, reason: str
) -> None:
    publish_numbers(acme, 5)
    since = {"epoch": "0badc0de.2", "ahead": cursor_at(acme, 6), "retention": cursor_at(acme, 2)}[reason]
    if reason == "retention":
        list(stream.prune(acme.pk, 3))
    answer = hers.get(ACME, {"since": since})
    body = answer.json()
    assert answer.status_code == 410
    assert (body["error"]["code"], body["reason"], body["cursor"]) == ("reset", reason, cursor_at(acme, 5))
    assert body["user"] == {"id": alice.pk}
    assert "events" not in body


def test_cursor_of_one_organisation_gets_410_and_no_data_at_another(
    client: Client, dave: User, acme: Organization, globex: Organization
) -> None:
    publish_numbers(acme, 3)
    publish_numbers(globex, 3)
    client.force_login(dave)
    answer = client.get(GLOBEX, {"since": cursor_at(acme, 1)})
    assert (answer.status_code, answer.json()["reason"]) == (410, "epoch")
    assert "number" not in answer.text


@pytest.mark.parametrize(
    ("who", "query", "status"),
    [
        ("alice", {}, 200),
        ("alice", {"since": "1"}, 400),
        ("alice", {"since": "0badc0de.1"}, 410),
        ("carol", {}, 403),
        ("nobody", {}, 401),
    ],
)
def test_no_answer_is_kept_by_a_cache(
    client: Client, alice: User, carol: User, who: str, query: dict[str, str], status: int
) -> None:
    if who != "nobody":
        client.force_login({"alice": alice, "carol": carol}[who])
    answer = client.get(ACME, query)
    assert (answer.status_code, answer["Cache-Control"], answer["Vary"]) == (status, "no-store", "Cookie")


# ------------------------------------------------------------------------------------------------ rates and locks

TICKET = f"{ACME}ticket/"
A_DAY = 86_400


def statuses(*answers: Any) -> list[int]:
    return [answer.status_code for answer in answers]


def test_pages_and_tickets_of_a_user_are_counted_together(
    hers: Client, bob: User, acme: Organization, configure: Configure
) -> None:
    configure(REQUEST_RATE=Rate(3, A_DAY))
    assert statuses(hers.get(ACME), hers.post(TICKET), hers.get(ACME)) == [200, 201, 200]
    refused = hers.get(ACME)
    assert statuses(refused, hers.post(TICKET)) == [429, 429]
    assert refused.json()["error"]["code"] == "rate_limited"
    assert 0 < int(refused["Retry-After"]) <= A_DAY
    hers.force_login(bob)
    assert statuses(hers.get(ACME)) == [200]


def test_requests_for_organisations_of_others_count_as_well(
    hers: Client, acme: Organization, globex: Organization, configure: Configure
) -> None:
    configure(REQUEST_RATE=Rate(3, A_DAY))
    assert statuses(hers.get(GLOBEX), hers.get("/orgs/nowhere/notifications/")) == [403, 403]
    assert statuses(hers.get(ACME), hers.get(ACME)) == [200, 429]


def test_requests_from_several_threads_never_exceed_the_rate(
    transactional_db: None, alice: User, configure: Configure
) -> None:
    configure(REQUEST_RATE=Rate(100, A_DAY))

    def count(_: int) -> int:
        admitted = 0
        for _ in range(50):
            with contextlib.suppress(Refused):
                admit_request_here(alice.pk)
                admitted += 1
        return admitted

    assert sum(start_many(8, count)) == 100


def test_dry_run_answers_and_logs_once_that_a_user_asks_too_often(
    hers: Client, acme: Organization, configure: Configure, caplog: pytest.LogCaptureFixture
) -> None:
    configure(REQUEST_RATE=Rate(1, A_DAY), LIMITS_DRY_RUN=True)
    assert statuses(*(hers.get(ACME) for _ in range(4))) == [200] * 4
    (record,) = [record for record in caplog.records if record.getMessage() == "a limit is exceeded"]
    assert (record.limit, record.enforced) == ("REQUEST_RATE", False)  # type: ignore[attr-defined]


def test_no_rate_is_no_limit(hers: Client, acme: Organization, configure: Configure) -> None:
    configure(REQUEST_RATE=None)
    assert statuses(*(hers.get(ACME) for _ in range(4))) == [200] * 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "table", ["orgrealtime_notificationevent", "orgrealtime_stream", "host_membership", "auth_user"]
)
def test_page_while_a_table_is_locked_is_a_503_soon(
    hers: Client, acme: Organization, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    monkeypatch.setattr(threads, "LOCK_TIMEOUT", "50ms")
    publish_numbers(acme, 1)
    with open_transaction(lambda: lock_table(table)), Stopwatch() as watch:
        answer = hers.get(ACME)
        watch.check(4, "the answer")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert int(answer["Retry-After"]) > 0


@pytest.mark.django_db(transaction=True)
def test_ticket_while_its_table_is_locked_is_a_503(
    hers: Client, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "LOCK_TIMEOUT", "50ms")
    with open_transaction(lambda: lock_table("orgrealtime_ticket")):
        answer = hers.post(TICKET)
    assert (answer.status_code, "Retry-After" in answer) == (503, True)
    assert statuses(hers.post(TICKET)) == [201]


# ------------------------------------------------------------------------------------------------------- hooks


class Hooked(CatchUpView):
    """Lets in who is called alice, and shows events in its own way."""

    default_limit = 3

    def allow(self, user: Any, access: Access) -> bool:
        return user.username == "alice" and access.role == "member"

    def render(self, event: Frame) -> Frame | None:
        return None if event["number"] == 1 else {**event, "shouted": True}


def ask_hooked(user: Any, **query: str) -> Any:
    request = RequestFactory().get("/", query)
    request.user = user
    return Hooked.as_view()(request, org_slug="acme")


def test_member_whom_the_host_does_not_allow_gets_403(bob: User) -> None:
    assert ask_hooked(bob).status_code == 403


def test_anonymous_is_not_asked_about_by_the_host(acme: Organization) -> None:
    assert ask_hooked(AnonymousUser()).status_code == 401


def test_events_are_rendered_by_the_host(alice: User, acme: Organization) -> None:
    publish_numbers(acme, 4)
    page = json.loads(ask_hooked(alice, since=cursor_at(acme, 0)).content)
    assert [(event["number"], event["shouted"]) for event in page["events"]] == [(0, True), (2, True)]
    assert (page["cursor"], page["has_more"]) == (cursor_at(acme, 3), True)


@pytest.mark.parametrize("path", [ACME, f"{ACME}stream/", f"{ACME}ticket/"])
def test_client_is_told_401_where_the_host_sends_everybody_to_log_in(
    client: Client, acme: Organization, settings: Settings, path: str
) -> None:
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    answer = client.post(path) if path.endswith("ticket/") else client.get(path)
    assert answer.status_code in {401, 501}


@pytest.mark.django_db(transaction=True)
async def test_process_that_drains_answers_503(hers: Client) -> None:
    await get_hub().drain()
    answer = await database.LIVE.run(hers.get, ACME)
    await close_hub()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
