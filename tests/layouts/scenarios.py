"""What the how-to "Which host are you?" tells to write. Not collected by itself: tests/test_howto.py runs it."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.dispatch import Signal
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path
from pytest_django.fixtures import Settings

from orgrealtime import publish
from orgrealtime.access import Access, revoke
from orgrealtime.adapters import get_adapter
from orgrealtime.asgi import realtime
from orgrealtime.checks import check_routes, check_settings
from orgrealtime.delivery import bell
from orgrealtime.receivers import connect_receivers
from tests.conftest import Configure
from tests.layouts.models import Company, Membership, Seat, Team, User
from tests.project import fenced, read, section
from tests.sockets import Socket, Sockets, log_in

pytestmark = pytest.mark.django_db

PAGE = read("howto/which-host.md")
SIGNALS = (m2m_changed, post_delete, post_save, pre_delete)

Rung = Callable[[Callable[[], Any]], set[tuple[str, Any]]]


def settings_of(heading: str, place: int) -> dict[str, Any]:
    """The settings of a section, or those with a path that is only named in one."""
    if f"# {heading}\n" not in PAGE:
        return {"MEMBERSHIP": heading}
    return dict(written(heading, place)["ORGREALTIME"])


def written(heading: str, place: int = 0, **names: Any) -> dict[str, Any]:
    """The names that a block of a section defines."""
    exec(fenced(section(PAGE, heading), "python")[place], names)  # noqa: S102 - our own page
    return names


# How Alice is made a member of a company.


def with_field(company: Company, user: User) -> None:
    company.members.add(user)


def with_team(company: Company, user: User) -> None:
    Team.objects.create(company=company).members.add(user)


def with_seat(company: Company, user: User) -> None:
    Seat.objects.create(team=Team.objects.create(company=company), user=user)


def with_employer(company: Company, user: User) -> None:
    user.employer = company
    user.save()


def with_owner(company: Company, user: User) -> None:
    company.owner = user
    company.save()


def with_membership(company: Company, user: User) -> None:
    Membership.objects.create(company=company, user=user)


def hers() -> User:
    return User.objects.get(username="alice")


LAYOUTS: dict[str, tuple[str, int, Callable[[Company, User], None], dict[str, Callable[[], Any]]]] = {
    "memberships": (
        "A model of memberships",
        0,
        with_membership,
        {
            "deleted": lambda: Membership.objects.get().delete(),
            "saved": lambda: Membership.objects.get().save(),
        },
    ),
    "field": (
        "A many-to-many field",
        0,
        with_field,
        {
            "removed": lambda: Company.objects.get(slug="acme").members.remove(hers()),
            "removed from the other side": lambda: hers().member_of.remove(*Company.objects.all()),
            "cleared": lambda: Company.objects.get(slug="acme").members.clear(),
            "cleared from the other side": lambda: hers().member_of.clear(),
            "set": lambda: Company.objects.get(slug="acme").members.set([]),
        },
    ),
    "field of the user": (
        "guests",
        0,
        lambda company, user: user.guest_of.add(company),
        {
            "removed": lambda: hers().guest_of.remove(*Company.objects.all()),
            "removed from the other side": lambda: Company.objects.get(slug="acme").guests.remove(hers()),
            "cleared from the other side": lambda: Company.objects.get(slug="acme").guests.clear(),
        },
    ),
    "teams": (
        "Teams in between",
        0,
        with_team,
        {
            "removed": lambda: Team.objects.get().members.remove(hers()),
            "removed from the other side": lambda: hers().teams.clear(),
            "team deleted": lambda: Team.objects.get().delete(),
            "team saved": lambda: Team.objects.get().save(),
            "team moved": lambda: move(Team.objects.get()),
        },
    ),
    "seats": (
        "Teams in between",
        1,
        with_seat,
        {
            "seat deleted": lambda: Seat.objects.get().delete(),
            "team deleted": lambda: Team.objects.get().delete(),
            "team moved": lambda: move(Team.objects.get()),
        },
    ),
    "employer": (
        "One organisation for each user",
        0,
        with_employer,
        {"moved": lambda: with_employer(Company.objects.get(slug="globex"), hers())},
    ),
    "owner": (
        "One user for each organisation",
        0,
        with_owner,
        {"sold": lambda: with_owner(Company.objects.get(slug="acme"), User.objects.get(username="bob"))},
    ),
}


def move(team: Team) -> None:
    team.company = Company.objects.get(slug="globex")
    team.save()


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def bob(db: None) -> User:
    return User.objects.create_user("bob")


@pytest.fixture
def acme(db: None) -> Company:
    Company.objects.create(slug="globex")
    return Company.objects.create(slug="acme")


@pytest.fixture
def use(configure: Configure) -> Iterator[Callable[[dict[str, Any]], None]]:
    """`use(settings)`: the app as it is after a start with these settings."""
    kept = {signal: signal.receivers for signal in SIGNALS}

    def apply(settings: dict[str, Any]) -> None:
        configure(**{"MEMBERSHIP": "", **settings})
        for signal in SIGNALS:
            forget(signal, [each for each in kept[signal] if "orgrealtime" not in str(each[0][0])])
        connect_receivers()

    yield apply
    for signal, receivers in kept.items():
        forget(signal, receivers)


def forget(signal: Any, receivers: list[Any]) -> None:
    signal.receivers = receivers
    signal.sender_receivers_cache.clear()


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest, use: Any, acme: Company, alice: User, bob: User) -> str:
    heading, place, make, _ = LAYOUTS[request.param]
    use(settings_of(heading, place))
    make(acme, alice)
    return str(request.param)


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any) -> Rung:
    """`rung(change)`: whom a change has the hubs check again."""

    def run(change: Callable[[], Any]) -> set[tuple[str, Any]]:
        found: set[tuple[str, Any]] = set()
        monkeypatch.setattr(bell, "check_user", lambda key, *rest: found.add(("user", key)))
        monkeypatch.setattr(bell, "check_organization", lambda key: found.add(("organization", key)))
        with django_capture_on_commit_callbacks(execute=True):
            change()
        return found

    return run


# --------------------------------------------------------------------------------------------- who is a member


def test_member_is_found_by_each_question_in_one_query(
    layout: str, acme: Company, alice: User, bob: User
) -> None:
    assert check_settings(None) == []
    adapter, access = get_adapter(), Access(acme.pk, alice.pk)
    for question, answer in [
        (lambda: adapter.find("acme", alice), (acme, access)),
        (
            lambda: adapter.find_together([("acme", alice), ("acme", bob)]),
            {("acme", alice.pk): (acme, access)},
        ),
        (
            lambda: adapter.accesses([(acme.pk, alice.pk), (acme.pk, bob.pk)]),
            {(acme.pk, alice.pk): (access, alice)},
        ),
        (lambda: set(adapter.member_ids(acme)), {alice.pk}),
        (lambda: adapter.resolve("acme"), acme),
        (lambda: adapter.find("acme", bob), None),
        (lambda: adapter.find("globex", alice), None),
    ]:
        with CaptureQueriesContext(connections["default"]) as captured:
            assert question() == answer
        assert len(captured) == 1


def test_organisation_without_an_owner_has_no_members(configure: Configure, acme: Company) -> None:
    configure(MEMBERSHIP="owner")
    assert acme.owner is None
    assert set(get_adapter().member_ids(acme)) == set()


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name in LAYOUTS for change in LAYOUTS[name][3]]
)
def test_end_of_access_is_heard(
    use: Any, rung: Rung, acme: Company, alice: User, bob: User, name: str, change: str
) -> None:
    heading, place, make, changes = LAYOUTS[name]
    use(settings_of(heading, place))
    make(acme, alice)
    assert rung(changes[change]) & {("user", alice.pk), ("organization", acme.pk)}


def test_members_of_other_teams_are_not_asked_about(
    use: Any, rung: Rung, acme: Company, alice: User, bob: User
) -> None:
    use(written("Teams in between")["ORGREALTIME"])
    with_team(acme, alice)
    with_team(acme, bob)
    assert rung(lambda: Team.objects.get(members=alice).delete()) == {("user", alice.pk)}


def test_memberships_that_do_not_count_give_no_access(use: Any, acme: Company, alice: User) -> None:
    module: Any = ModuleType("companies")
    module.Adapter = written("Some memberships don't count")["Adapter"]
    sys.modules["companies"] = module
    use({"MEMBERSHIP": "memberships__user", "ADAPTER": "companies.Adapter"})
    with_membership(acme, alice)
    assert get_adapter().find("acme", alice) is not None
    Membership.objects.update(deleted_at="2026-01-01T00:00Z")
    assert get_adapter().find("acme", alice) is None


WRONG = {
    "slug": "no relation",
    "teams": "ends at layouts.Team",
    "teams__name": "has only",
    "nothing": "has only",
    "owner__employer": "ends at layouts.Company",
    "owner__teams__members": "one row must say who is a member of what; for all else write an ORGREALTIME['ADAPTER']",
}


@pytest.mark.parametrize(("path", "message"), WRONG.items())
def test_path_that_leads_to_no_users_is_e004(configure: Configure, path: str, message: str) -> None:
    configure(MEMBERSHIP=path)
    [error] = check_settings(None)
    assert error.id == "orgrealtime.E004"
    assert message in error.msg


def test_many_to_many_field_of_a_membership_model_is_e004_and_says_what_to_set(configure: Configure) -> None:
    configure(
        MEMBERSHIP="",
        MEMBERSHIP_MODEL="layouts.Team",
        MEMBERSHIP_ORGANIZATION_FIELD="company",
        MEMBERSHIP_USER_FIELD="members",
    )
    [error] = check_settings(None)
    assert error.id == "orgrealtime.E004"
    assert "ORGREALTIME['MEMBERSHIP']" in error.msg


def test_two_ways_to_say_it_are_e004(configure: Configure) -> None:
    configure(MEMBERSHIP="members", MEMBERSHIP_MODEL="layouts.Membership")
    [error] = check_settings(None)
    assert (error.id, "not both" in error.msg) == ("orgrealtime.E004", True)


# ------------------------------------------------------------------------------------ how an organisation is named


def status(user: User, path: str, **headers: str) -> int:
    client = Client(headers=headers)
    client.force_login(user)
    return client.get(path).status_code


def test_organisation_is_found_by_its_number(use: Any, acme: Company, alice: User) -> None:
    use(written("By its number or UUID")["ORGREALTIME"])
    with_field(acme, alice)
    for slug, expected in {
        acme.pk: 200,
        acme.pk + 1: 403,
        "abc": 403,
        "9" * 30: 403,
        uuid.uuid4(): 403,
    }.items():
        assert status(alice, f"/orgs/{slug}/notifications/") == expected
    assert set(get_adapter().find_together([(str(acme.pk), alice), ("abc", alice)])) == {
        (str(acme.pk), alice.pk)
    }
    assert get_adapter().find_together([("9" * 30, alice)]) == {}
    assert get_adapter().resolve("abc") is None


def test_organisation_is_found_by_its_uuid(use: Any, acme: Company, alice: User) -> None:
    use({"MEMBERSHIP": "members", "ORGANIZATION_SLUG_FIELD": "uuid"})
    Company.objects.filter(pk=acme.pk).update(uuid=(known := uuid.uuid4()))
    with_field(acme, alice)
    for slug, expected in {known: 200, uuid.uuid4(): 403, "abc": 403, acme.pk: 403}.items():
        assert status(alice, f"/orgs/{slug}/notifications/") == expected


realtime_routes = written("By slugs with dots, or in other scripts")["realtime_routes"]
urlpatterns = [path("", include(realtime_routes.http))]


@pytest.mark.parametrize("slug", ["acme.example", "акме", "acme & sons"])
async def test_slug_may_have_dots_and_other_letters(
    sockets: Sockets, settings: Settings, use: Any, slug: str
) -> None:
    settings.ROOT_URLCONF = __name__

    def make() -> tuple[User, Company]:
        use({"MEMBERSHIP": "members"})
        alice, company = User.objects.create_user("alice"), Company.objects.create(slug=slug)
        company.members.add(alice)
        return alice, company

    alice, company = await sync_to_async(make)()
    socket = await Socket.connect_as(alice, company, application=realtime(realtime_routes.websocket))
    await sync_to_async(publish)(company, "note", {})
    await socket.assert_event("note")
    await socket.disconnect()
    assert await sync_to_async(status)(alice, f"/orgs/{slug}/notifications/") == 200


async def test_subdomain_is_the_slug_and_its_pages_may_connect(
    sockets: Sockets, settings: Settings, use: Any
) -> None:
    names = written("By subdomains")
    settings.ALLOWED_HOSTS = names["ALLOWED_HOSTS"]

    def make() -> User:
        use(names["ORGREALTIME"])
        alice = User.objects.create_user("alice")
        Company.objects.create(slug="1", subdomain="acme").members.add(alice)
        return alice

    cookie = await sync_to_async(log_in)(await sync_to_async(make)())

    def from_page(host: str) -> dict[str, Any]:
        given = {"host": "acme.example.com", "origin": f"http://{host}", "cookie": cookie}
        return {"headers": [(name.encode(), value.encode()) for name, value in given.items()]}

    await (await sockets.open(scope=from_page("acme.example.com"))).synced()
    assert await sockets.refused(scope=from_page("globex.example.com")) == 4403


# -------------------------------------------------------------------------------------------------------- routes


def single_page(request: Any) -> HttpResponse:
    return HttpResponse("<!doctype html>")


class Routes:
    def __init__(self, urlpatterns: list[Any]) -> None:
        self.urlpatterns = urlpatterns


def test_route_that_catches_all_comes_last(settings: Settings) -> None:
    right = written("A route that catches all", single_page=single_page)["urlpatterns"]
    settings.ROOT_URLCONF = Routes(right)
    assert check_routes(None) == []
    settings.ROOT_URLCONF = Routes([*reversed(right)])
    assert {message.id for message in check_routes(None)} == {"orgrealtime.W008"}
    assert len(check_routes(None)) == 3


# ------------------------------------------------------------------------------------------------- other people


def test_impersonation_has_both_users_checked(
    rung: Rung, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: Any = ModuleType("hijack.signals")
    signals.hijack_started, signals.hijack_ended = Signal(), Signal()
    monkeypatch.setitem(sys.modules, "hijack", ModuleType("hijack"))
    monkeypatch.setitem(sys.modules, "hijack.signals", signals)
    names = written("Looking through a user's eyes")
    assert "check_again" in names
    for signal in (signals.hijack_started, signals.hijack_ended):
        assert rung(lambda signal=signal: signal.send(None, hijacker=alice, hijacked=bob)) == {
            ("user", alice.pk),
            ("user", bob.pk),
        }


def test_revoke_without_an_organisation_means_all(
    monkeypatch: pytest.MonkeyPatch, alice: User, acme: Company, django_capture_on_commit_callbacks: Any
) -> None:
    found: list[Any] = []
    monkeypatch.setattr(bell, "check_user", lambda *keys: found.append(keys))
    with django_capture_on_commit_callbacks(execute=True):
        revoke(alice)
        revoke(alice, acme)
    assert found == [(alice.pk, None), (alice.pk, acme.pk)]
