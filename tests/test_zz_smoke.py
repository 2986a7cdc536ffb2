import pytest, asyncio, json
from django.db import transaction, connection
from orgrealtime import publish, stream
from orgrealtime.cursors import Cursor
from orgrealtime.access import Access


@pytest.mark.django_db(transaction=True, databases=["default", "other", "lite"])
@pytest.mark.parametrize("alias", ["default", "lite"])
def test_stream(alias, django_assert_num_queries):
    from tests.host.models import Organization, Membership
    from django.contrib.auth.models import User

    o = Organization.objects.using(alias).create(name="A", slug="a")
    u = User.objects.db_manager(alias).create_user("u")
    pos = stream.position(o, using=alias)
    with transaction.atomic(alias):
        e = publish(o, "x", {"a": 1, "é": "\u2028"}, actor=u, using=alias)
        e2 = publish(o, "y", {"b": 1}, to=[u], using=alias)
        e3 = publish(o, "y", {"b": 1}, to=[u.pk, 777], dedupe_key="k", using=alias)
    e4 = publish(o, "z", {"b": 2}, dedupe_key="k", using=alias)
    assert e4.pk == e3.pk and e4.type == "y", e4
    page = stream.read(o.pk, Cursor.parse(pos.cursor), using=alias)
    print(page)
    assert [e.seq for e in page.events] == [1, 2, 3]
    page = stream.read(o.pk, Cursor.parse(pos.cursor), access=Access(o.pk, u.pk), using=alias)
    assert [e.seq for e in page.events] == [1, 2, 3]
    page = stream.read(o.pk, Cursor.parse(pos.cursor), access=Access(o.pk, 99), using=alias)
    assert [e.seq for e in page.events] == [1]
    page = stream.read_last(o.pk, access=Access(o.pk, u.pk), limit=2, using=alias)
    assert [e.seq for e in page.events] == [2, 3]
    assert list(stream.prune(o.pk, 2, using=alias)) == [2]
    u.delete()
    o.delete()
