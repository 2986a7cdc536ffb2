"""How the library learns who is a member: the shipped adapters, and what a host overrides in them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models
from django.db.models.signals import m2m_changed
from pytest_django.fixtures import Settings

from orgrealtime import publish, receivers
from orgrealtime.access import Access
from orgrealtime.adapters import MembershipAdapter, _check_reference, get_adapter
from orgrealtime.admission import sessions
from orgrealtime.keys import can_hold
from tests.conftest import Configure
from tests.host.models import Membership, Organization

CountQueries = Callable[[int], Any]

pytestmark = pytest.mark.django_db


# ------------------------------------------------------------------------------------------------- by settings


def test_member_is_found_with_the_organisation_in_one_query(
    alice: User, acme: Organization, django_assert_num_queries: CountQueries
) -> None:
    with django_assert_num_queries(1):
        found = MembershipAdapter().find("acme", alice)
        assert found is not None
        assert (found[0], found[0].slug) == (acme, "acme")  # type: ignore[attr-defined]
        assert found[1] == Access(acme.pk, alice.pk, role="member")


def test_stranger_costs_the_same_query_at_a_foreign_as_at_an_unknown_organisation(
    carol: User, acme: Organization, django_assert_num_queries: CountQueries
) -> None:
    statements = []
    for slug in ("acme", "nowhere"):
        with django_assert_num_queries(1) as captured:
            assert MembershipAdapter().find(slug, carol) is None
        statements.append(captured[0]["sql"].replace(slug, "?"))
    assert statements[0] == statements[1]


def test_accesses_of_many_are_asked_in_one_query(
    alice: User,
    dave: User,
    acme: Organization,
    globex: Organization,
    django_assert_num_queries: CountQueries,
) -> None:
    pairs = [(acme.pk, alice.pk), (acme.pk, dave.pk), (globex.pk, dave.pk)]
    with django_assert_num_queries(1):
        accesses = MembershipAdapter().accesses(pairs)
        assert {pair: user.username for pair, (_, user) in accesses.items()} == {
            (acme.pk, alice.pk): "alice",
            (acme.pk, dave.pk): "dave",
            (globex.pk, dave.pk): "dave",
        }


def test_accesses_leave_out_who_is_no_member(
    alice: User, carol: User, acme: Organization, globex: Organization
) -> None:
    pairs = [(acme.pk, alice.pk), (globex.pk, alice.pk), (acme.pk, carol.pk), (acme.pk, 4711)]
    assert set(MembershipAdapter().accesses(pairs)) == {(acme.pk, alice.pk)}


def test_accesses_have_the_role_and_the_user_of_today(alice: User, acme: Organization) -> None:
    Membership.objects.update(role="admin")
    User.objects.update(is_active=False)
    access, user = MembershipAdapter().accesses([(acme.pk, alice.pk)])[acme.pk, alice.pk]
    assert (access.role, user.is_active) == ("admin", False)


def test_user_with_two_memberships_has_the_same_access_when_connecting_as_later(
    alice: User, acme: Organization
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE host_membership DROP CONSTRAINT host_one_membership_per_user")
    second = Membership.objects.create(organization=acme, user=alice, role="admin")
    adapter = MembershipAdapter()
    for _ in range(2):
        found = adapter.find("acme", alice)
        assert found is not None
        assert adapter.accesses([(acme.pk, alice.pk)])[acme.pk, alice.pk][0] == found[1]
        assert adapter.find_together({("acme", alice)})["acme", alice.pk] == found
        # An update moves a row to the end, where a query without an order comes to it last.
        Membership.objects.exclude(pk=second.pk).update(role="viewer")


def test_organisation_is_resolved_whoever_asks(acme: Organization) -> None:
    assert MembershipAdapter().resolve("acme") == acme
    assert MembershipAdapter().resolve("nowhere") is None


def test_members_are_listed_in_one_query(
    alice: User, bob: User, carol: User, acme: Organization, django_assert_num_queries: CountQueries
) -> None:
    with django_assert_num_queries(1):
        assert MembershipAdapter().member_ids(acme) == {alice.pk, bob.pk}


def test_membership_tells_its_user(alice: User) -> None:
    adapter = MembershipAdapter()
    assert list(adapter.membership_models()) == [Membership]
    assert adapter.user_of(Membership.objects.get()) == alice.pk


def test_fields_of_other_names_are_named_by_settings(
    configure: Configure, alice: User, bob: User, acme: Organization
) -> None:
    configure(
        MEMBERSHIP_MODEL="orgrealtime.NotificationEvent",
        MEMBERSHIP_USER_FIELD="actor",
        ORGANIZATION_SLUG_FIELD="name",
    )
    publish(acme, "joined", {}, actor=alice)
    adapter = get_adapter()
    found = adapter.find("Acme", alice)
    assert found is not None
    assert found[1] == Access(acme.pk, alice.pk)
    assert adapter.find("Acme", bob) is None
    assert adapter.resolve("Acme") == acme
    assert adapter.member_ids(acme) == {alice.pk}
    assert adapter.accesses([(acme.pk, alice.pk)])[acme.pk, alice.pk][1] == alice


def test_path_from_the_organisation_to_its_users_says_it_all(
    configure: Configure, alice: User, carol: User, acme: Organization
) -> None:
    configure(MEMBERSHIP_MODEL="", MEMBERSHIP="memberships__user")
    adapter = get_adapter()
    assert list(adapter.membership_models()) == [Membership]
    assert adapter.find("acme", alice) == (acme, Access(acme.pk, alice.pk, "member"))
    assert adapter.find("acme", carol) is None


@pytest.mark.parametrize("path", ["slug", "memberships", "plan__organization__memberships__user", "nowhere"])
def test_path_that_leads_to_no_users_is_refused(configure: Configure, path: str) -> None:
    configure(MEMBERSHIP_MODEL="", MEMBERSHIP=path)
    with pytest.raises(ImproperlyConfigured, match="MEMBERSHIP"):
        get_adapter()


@pytest.mark.parametrize("slug", ["abc", "7.5", "", "9" * 30, "-1"])
def test_organisation_is_found_by_its_number_and_nobody_by_what_is_none(
    configure: Configure, alice: User, acme: Organization, slug: str
) -> None:
    configure(ORGANIZATION_SLUG_FIELD="id")
    adapter = get_adapter()
    assert adapter.find(str(acme.pk), alice) is not None
    assert adapter.find(slug, alice) is None
    assert set(adapter.find_together([(str(acme.pk), alice), (slug, alice)])) == {(str(acme.pk), alice.pk)}
    assert adapter.resolve(slug) is None


@pytest.mark.parametrize("takes_away", ["remove", "clear"])
@pytest.mark.parametrize("reverse", [False, True])
def test_rows_that_a_many_to_many_field_takes_away_are_found_before(
    alice: User, bob: User, takes_away: str, reverse: bool
) -> None:
    staff, sales = Group.objects.create(name="staff"), Group.objects.create(name="sales")
    for user in (alice, bob):
        user.groups.add(staff, sales)
    found: list[set[tuple[int, int]]] = []

    def hear(sender: Any, instance: Any, action: str, using: str, **kwargs: Any) -> None:
        if action.startswith("pre_"):
            rows = receivers._rows(sender, instance, using, **kwargs)
            found.append({(row.user_id, row.group_id) for row in rows})

    m2m_changed.connect(hear, sender=User.groups.through)
    try:
        of_one: Any = staff.user_set if reverse else alice.groups
        getattr(of_one, takes_away)(*([alice if reverse else staff] if takes_away == "remove" else []))
    finally:
        m2m_changed.disconnect(hear, sender=User.groups.through)
    both = (
        {(user.pk, staff.pk) for user in (alice, bob)}
        if reverse
        else {(alice.pk, staff.pk), (alice.pk, sales.pk)}
    )
    assert found == [{(alice.pk, staff.pk)} if takes_away == "remove" else both]


def test_missing_membership_model_is_named(configure: Configure, alice: User) -> None:
    configure(MEMBERSHIP_MODEL="")
    with pytest.raises(ImproperlyConfigured, match="MEMBERSHIP_MODEL"):
        get_adapter().find("acme", alice)


def test_field_that_leads_to_many_users_is_refused() -> None:
    assert Permission._meta.get_field("user").related_model is User
    with pytest.raises(ImproperlyConfigured, match="isn't a foreign key"):
        _check_reference(Permission, "user", User, "MEMBERSHIP_USER_FIELD")


# ------------------------------------------------------------------------------------------ overridden by a host


class Guarded(MembershipAdapter):
    """Invited people aren't members yet, and guests see public events only."""

    def queryset(self) -> models.QuerySet[Any]:
        return super().queryset().exclude(role="invited")

    def access(self, membership: Any) -> Access:
        types = frozenset({"public"}) if membership.role == "guest" else None
        return Access(membership.organization_id, membership.user_id, membership.role, types)


@pytest.fixture
def guarded(configure: Configure) -> MembershipAdapter:
    configure(ADAPTER=f"{__name__}.Guarded")
    adapter = get_adapter()
    assert isinstance(adapter, Guarded)
    return adapter


def test_membership_that_does_not_count_gives_no_access(
    guarded: MembershipAdapter, alice: User, acme: Organization
) -> None:
    Membership.objects.update(role="invited")
    assert guarded.find("acme", alice) is None
    assert guarded.accesses([(acme.pk, alice.pk)]) == {}
    assert guarded.member_ids(acme) == set()


def test_access_is_the_host_s_when_connecting_and_later(
    guarded: MembershipAdapter, alice: User, acme: Organization
) -> None:
    Membership.objects.update(role="guest")
    expected = Access(acme.pk, alice.pk, "guest", frozenset({"public"}))
    found = guarded.find("acme", alice)
    assert found is not None
    assert found[1] == guarded.accesses([(acme.pk, alice.pk)])[acme.pk, alice.pk][0] == expected


# ------------------------------------------------------------------------------------------- django-organizations

HOST = """
import json
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="x",
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    INSTALLED_APPS=[
        "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions",
        "organizations", "orgrealtime",
    ],
    ORGREALTIME_ORGANIZATION_MODEL="organizations.Organization",
    ORGREALTIME={"ADAPTER": "orgrealtime.adapters.DjangoOrganizationsAdapter"},
)
django.setup()

from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from organizations.models import Organization, OrganizationUser
from organizations.utils import create_organization

from orgrealtime import publish, stream
from orgrealtime.adapters import get_adapter

call_command("migrate", verbosity=0)
alice, bob = User.objects.create_user("alice"), User.objects.create_user("bob")
acme = create_organization(alice, "Acme", slug="acme")
adapter = get_adapter()
pair = (acme.pk, alice.pk)
seen = {}
with CaptureQueriesContext(connection, ) as captured:
    organization, access = adapter.find("acme", alice)
    seen["member"] = [organization.slug, access.organization_id == acme.pk, access.user_id == alice.pk]
seen["queries of find"] = len(captured)
with CaptureQueriesContext(connection) as captured:
    seen["accesses"] = [user.username for _, user in adapter.accesses([pair, (acme.pk, bob.pk)]).values()]
seen["queries of accesses"] = len(captured)
seen["stranger"] = adapter.find("acme", bob)
seen["resolved"] = adapter.resolve("acme").slug
seen["members"] = list(adapter.member_ids(acme))
seen["models"] = [model.__name__ for model in adapter.membership_models()]
seen["user of"] = adapter.user_of(OrganizationUser.objects.get())
publish(acme, "note", {"n": 1})
seen["head"] = stream.position(acme).head
Organization.objects.update(is_active=False)
seen["member of an inactive one"] = adapter.find("acme", alice)
seen["accesses to an inactive one"] = len(adapter.accesses([pair]))
print(json.dumps(seen))
"""


@pytest.mark.slow
def test_django_organizations_works_with_its_adapter() -> None:
    done = subprocess.run([sys.executable, "-c", HOST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "member": ["acme", True, True],
        "queries of find": 1,
        "accesses": ["alice"],
        "queries of accesses": 1,
        "stranger": None,
        "resolved": "acme",
        "members": [1],
        "models": ["OrganizationUser"],
        "user of": 1,
        "head": 1,
        "member of an inactive one": None,
        "accesses to an inactive one": 0,
    }


NUMBERS: dict[models.Field[Any, Any], dict[str, bool]] = {
    models.UUIDField(): {"abc": False, "1": False, "": False, "A" * 32: True, f"{'0' * 8}-{'0' * 24}": True},
    models.IntegerField(): {"abc": False, "": False, "1.5": False, str(2**31): False, str(2**31 - 1): True},
    models.BigAutoField(primary_key=True): {str(2**63): False, "9" * 5000: False, str(2**63 - 1): True},
    models.PositiveSmallIntegerField(): {str(2**15): False, "7": True},
    models.DateField(): {"abc": False, "2026-11-26": True},
    models.SlugField(): {"abc": True, "": True, "a" * 3000: True},
}


@pytest.mark.parametrize("alias", ["default", "lite"])
@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: type(field).__name__)
def test_what_a_column_can_not_hold_is_not_asked_for(field: models.Field[Any, Any], alias: str) -> None:
    assert {text: can_hold(field, text, alias) for text in NUMBERS[field]} == NUMBERS[field]


class ReadsFromAReplica:
    """A router as hosts have it."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "other"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


def test_who_is_a_member_is_asked_of_the_primary(settings: Settings) -> None:
    settings.DATABASE_ROUTERS = ["tests.test_adapters.ReadsFromAReplica"]
    assert MembershipAdapter().queryset().db == "default"
    assert sessions.primary(Session).db == "default"
