from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from orgrealtime.chat import history, services
from tests.host.models import Organization

pytestmark = pytest.mark.django_db(databases=["default"])


def test_first(acme: Organization, alice: User, bob: User, django_assert_num_queries) -> None:
    room = services.create_room(acme, None, kind="public", name="General", slug="general", members=[alice])
    with django_assert_num_queries(5) as q:
        sent = services.send(acme, alice, room_id=room.pk, body="hello", client_message_id="a")
    for e in q.captured_queries:
        print(e["sql"][:1500], "\n")
    assert services.send(acme, alice, room_id=room.pk, body="hello", client_message_id="a") == (
        sent.message,
        True,
    )
    page = history.read(acme, bob, room_id=room.pk)
    print(page.as_json())
    assert [m["body"] for m in page.messages] == ["hello"]
    services.join(acme, bob, room_id=room.pk)
    services.react(acme, bob, message_id=sent.message.pk, emoji="x")
    services.edit(acme, alice, message_id=sent.message.pk, body="bye")
    services.delete(acme, alice, message_id=sent.message.pk)
    print(services.rooms_of(acme, bob)[0].as_json())
    print(history.read(acme, bob, room_id=room.pk, around=2).as_json())
    d = services.open_direct(acme, alice, bob)
    assert services.open_direct(acme, bob, alice) == d
    services.leave(acme, bob, room_id=room.pk)
