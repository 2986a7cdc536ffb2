"""What holds for families of models. Not collected by itself: tests/test_keys.py runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connections
from django.template import Context, Template
from django.test import Client
from django.test.utils import CaptureQueriesContext

from orgrealtime import publish, stream
from orgrealtime.access import Access, revoke
from orgrealtime.adapters import get_adapter
from orgrealtime.checks import check_settings
from orgrealtime.delivery import bell
from orgrealtime.models import NotificationEvent, Stream
from tests.conftest import Configure
from tests.family.models import (
    Colleague,
    Company,
    Guest,
    Membership,
    Organization,
    Party,
    Person,
    Seat,
    Team,
    User,
)
from tests.sockets import ORIGIN, Socket, Sockets

pytestmark = pytest.mark.django_db

Rung = Callable[[Callable[[], Any]], list[tuple[str, Any]]]


@pytest.fixture
def acme(db: None) -> Organization:
    for _ in range(3):
        Party.objects.create()  # so that no two keys are equal by chance
    return Organization.objects.create(id=70, slug="acme")


@pytest.fixture
def alice(acme: Organization) -> User:
    return member("alice", acme)


@pytest.fixture
def bob(acme: Organization) -> User:
    return member("bob", acme)


def member(name: str, organization: Organization) -> User:
    user = User(username=name, code=f"u-{name}")
    user.set_password("demo")
    user.save()
    Membership.objects.create(organization=organization, user=Colleague.objects.get(pk=user.pk))
    return user


def make_company(organization: Organization) -> None:
    company = Company(key="acme-ltd", organization=organization)
    company.__dict__.update({key: value for key, value in organization.__dict__.items() if key != "_state"})
    company.save()


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any) -> Rung:
    """`rung(change)`: whom a change has the hubs check again."""

    def run(change: Callable[[], Any]) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        monkeypatch.setattr(bell, "check_user", lambda key, *rest: found.append(("user", key)))
        monkeypatch.setattr(bell, "check_organization", lambda key: found.append(("organization", key)))
        with django_capture_on_commit_callbacks(execute=True):
            change()
        return found

    return run


# --------------------------------------------------------------------------------------------- the adapter


def test_checks_have_nothing_to_say() -> None:
    assert check_settings(None) == []


def test_member_is_found_by_primary_keys(acme: Organization, alice: User) -> None:
    access = Access(acme.id, alice.pk)
    adapter = get_adapter()
    assert adapter.find("acme", alice) == (acme, access)
    assert adapter.find_together({("acme", alice)}) == {("acme", alice.pk): (acme, access)}
    assert adapter.accesses({(acme.id, alice.pk)}) == {(acme.id, alice.pk): (access, alice)}
    assert adapter.member_ids(acme) == {alice.pk}
    assert adapter.user_of(Membership.objects.get()) == alice.pk


@pytest.mark.parametrize(
    "ask",
    [
        lambda alice: get_adapter().find("acme", alice),
        lambda alice: get_adapter().find_together({("acme", alice)}),
        lambda alice: get_adapter().accesses({(70, alice.pk)}),
    ],
)
def test_adapter_asks_once(alice: User, ask: Callable[[User], Any]) -> None:
    with CaptureQueriesContext(connections["default"]) as captured:
        assert ask(alice)
    assert len(captured.captured_queries) == 1


def test_organisation_that_is_hidden_is_gone_at_every_question(acme: Organization, alice: User) -> None:
    Organization.everything.update(is_deleted=True)
    adapter = get_adapter()
    assert adapter.find("acme", alice) is None
    assert adapter.find_together({("acme", alice)}) == {}
    assert adapter.accesses({(acme.id, alice.pk)}) == {}
    assert adapter.resolve("acme") is None


# ------------------------------------------------------------------------------------------------ publishing


def test_event_is_published_by_whatever_class_of_the_family(
    acme: Organization, alice: User, bob: User
) -> None:
    make_company(acme)
    for given in (acme, Team.objects.get(), Company.objects.get()):
        for user in (alice, Colleague.objects.get(pk=alice.pk), alice.pk):
            publish(given, "note", {}, actor=user, to=user)
        stream.position(given)
        Template("{% load orgrealtime %}{% orgrealtime_position acme %}").render(Context({"acme": given}))
    assert set(NotificationEvent.objects.values_list("organization_id", "actor_id")) == {(70, alice.pk)}
    seen = stream.read_last(acme.id, access=Access(acme.id, alice.pk)).events
    assert len(seen) == 9
    assert stream.read_last(acme.id, access=Access(acme.id, bob.pk)).events == []


def test_parent_is_no_organisation(acme: Organization) -> None:
    party = Party.objects.get(pk=acme.party_id)
    with pytest.raises(TypeError, match=r"family\.Team"):
        publish(party, "note", {})


def test_parent_is_no_user(acme: Organization, alice: User) -> None:
    person = Person.objects.get(pk=alice.pk)
    with pytest.raises(TypeError, match=r"family\.User"):
        publish(acme, "note", {}, to=person)


# --------------------------------------------------------------------------------------------------- signals

CHANGES: dict[str, tuple[Callable[[], Any], str]] = {
    "user": (lambda: User.objects.get().save(), "user"),
    "proxy of the user": (lambda: Colleague.objects.get().save(), "user"),
    "parent of the user": (lambda: Person.objects.get().save(), "user"),
    "membership": (lambda: Membership.objects.get().save(), "user"),
    "proxy of the membership": (lambda: Guest.objects.get().save(), "user"),
    "parent of the membership": (lambda: Seat.objects.get().save(), "user"),
    "deleted membership": (lambda: Membership.objects.get().delete(), "user"),
    "deleted parent of the membership": (lambda: Seat.objects.get().delete(), "user"),
    "organisation": (lambda: Organization.objects.get().save(), "organization"),
    "proxy of the organisation": (lambda: Team.objects.get().save(), "organization"),
    "parent of the organisation": (lambda: Party.objects.order_by("pk").last().save(), "organization"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_heard_from_whatever_class_of_the_family(
    acme: Organization, alice: User, rung: Rung, name: str
) -> None:
    change, kind = CHANGES[name]
    key = alice.pk if kind == "user" else acme.id
    assert (kind, key) in rung(change)


def test_deleted_parent_of_the_organisation_is_heard(acme: Organization, alice: User, rung: Rung) -> None:
    assert ("organization", acme.id) in rung(lambda: Party.objects.get(pk=acme.party_id).delete())


def test_deleted_parent_of_the_user_is_heard(alice: User, rung: Rung) -> None:
    assert ("user", alice.pk) in rung(lambda: Person.objects.get().delete())


def test_parent_without_a_child_is_nobody(acme: Organization, rung: Rung) -> None:
    assert rung(lambda: Party.objects.create().save()) == []
    assert rung(lambda: Seat.objects.create().save()) == []


def test_revoke_takes_any_class_of_the_family(
    acme: Organization, alice: User, monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    rings: list[Any] = []
    monkeypatch.setattr(bell, "check_user", lambda *keys: rings.append(keys))
    with django_capture_on_commit_callbacks(execute=True):
        revoke(Colleague.objects.get(), Team.objects.get())
    assert rings == [(alice.pk, acme.id)]


@pytest.mark.parametrize("model", [Organization, Team])
def test_new_organisation_gets_its_stream(model: Any, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        model.objects.create(id=71, slug="globex")
    assert Stream.objects.get().pk == 71


# ------------------------------------------------------------------------------------------------- the doors


@pytest.fixture
async def hers(sockets: Sockets, alice: User) -> Socket:
    return await (await sockets.open(alice)).synced()


@pytest.mark.django_db(transaction=True)
async def test_member_is_let_in_and_gets_events(hers: Socket, acme: Organization, alice: User) -> None:
    await sync_to_async(publish)(acme, "note", {}, to=alice)
    [event] = await hers.next_events(1)
    assert event["type"] == "note"


@pytest.mark.django_db(transaction=True)
async def test_organisation_may_be_found_as_a_child_of_its_model(
    sockets: Sockets, acme: Organization, alice: User, configure: Configure
) -> None:
    configure(ADAPTER="tests.family.realtime.CompanyAdapter")
    await sync_to_async(make_company)(acme)
    socket = await sockets.open(alice)
    welcome = (await socket.until("synced"))[0]
    assert welcome["org"] == {"id": 70, "slug": "acme"}
    await sync_to_async(publish)(acme, "note", {})
    await socket.next_events(1)
    client = Client()
    await sync_to_async(client.force_login)(alice)
    page = await sync_to_async(client.get)("/orgs/acme/notifications/")
    assert [event["type"] for event in page.json()["events"]] == ["note"]
    answer = await sync_to_async(client.post)("/orgs/acme/notifications/ticket/", headers={"origin": ORIGIN})
    offered = f"orgrealtime.ticket.{answer.json()['ticket']}"
    await sockets.open(scope={"subprotocols": ["orgrealtime.v1", offered]})


ENDS: dict[str, tuple[Callable[[Organization], Any], int]] = {
    "organisation soft-deleted": (lambda acme: set_and_save(acme, is_deleted=True), 4403),
    "organisation soft-deleted through its proxy": (
        lambda acme: set_and_save(Team.objects.get(), is_deleted=True),
        4403,
    ),
    "organisation blocked in its parent": (
        lambda acme: set_and_save(Party.objects.get(pk=acme.party_id), is_blocked=True),
        4403,
    ),
    "seat no longer paid": (lambda acme: set_and_save(Seat.objects.get(), is_paid=False), 4403),
    "user disabled in the parent": (lambda acme: set_and_save(Person.objects.get(), is_active=False), 4401),
}


def set_and_save(instance: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(instance, name, value)
    instance.save()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", ENDS)
async def test_connection_is_closed_at_once(hers: Socket, acme: Organization, end: str) -> None:
    change, code = ENDS[end]
    await sync_to_async(change)(acme)
    assert await hers.close_code() == code


@pytest.mark.django_db(transaction=True)
async def test_organisation_that_is_hidden_lets_nobody_in(
    sockets: Sockets, acme: Organization, alice: User
) -> None:
    await sync_to_async(set_and_save)(acme, is_deleted=True)
    assert await sockets.refused(alice) == 4403
    assert await sync_to_async(answers)(alice) == [403, 403]


@pytest.mark.django_db(transaction=True)
async def test_ticket_of_an_organisation_that_has_been_hidden_is_refused(
    sockets: Sockets, acme: Organization, alice: User
) -> None:
    def issue() -> str:
        client = Client()
        client.force_login(alice)
        ticket: str = client.post("/orgs/acme/notifications/ticket/", headers={"origin": ORIGIN}).json()[
            "ticket"
        ]
        set_and_save(acme, is_deleted=True)
        return ticket

    offered = f"orgrealtime.ticket.{await sync_to_async(issue)()}"
    assert await sockets.refused(scope={"subprotocols": ["orgrealtime.v1", offered]}) == 4403


def answers(user: User) -> list[int]:
    """How catch-up and the ticket's view answer this user."""
    client = Client()
    client.force_login(user)
    asked = (client.get("/orgs/acme/notifications/"), client.post("/orgs/acme/notifications/ticket/"))
    return [answer.status_code for answer in asked]


def test_command_publishes_to_members_by_their_names(acme: Organization, alice: User) -> None:
    call_command("orgrealtime_publish", "acme", "note", "{}", verbosity=0)
    assert NotificationEvent.objects.get().organization_id == acme.id
