"""One hub for many connections: what goes wrong with one must not reach the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction

from orgrealtime import consumers, publish, stream
from orgrealtime.access import Access
from orgrealtime.adapters import MembershipAdapter
from orgrealtime.admission.service import AdmissionService
from orgrealtime.consumers import NotificationsConsumer, OrgConsumer, command
from orgrealtime.delivery import bell
from orgrealtime.delivery.feed import MAX_CHUNKS
from orgrealtime.delivery.hub import get_hub
from orgrealtime.models import NotificationEvent, Stream, new_epoch
from orgrealtime.protocol.cursors import Cursor
from orgrealtime.stream import database
from orgrealtime.stream.reading import PAGE_CHARS
from orgrealtime.views import CatchUpView
from tests.conftest import Configure, Instead, MakeOrg, MakeUser
from tests.host.models import Membership, Organization
from tests.sockets import Frame, Sockets, publish_event, routed, settled
from tests.stopwatch import Stopwatch
from tests.threads import open_transaction
from tests.waiting import LIMIT_SECONDS, eventually

pytestmark = pytest.mark.django_db(transaction=True)


class Clumsy(NotificationsConsumer):
    """A host's consumer with a mistake in it."""

    def render(self, event: Frame) -> Frame | None:
        return event if event["type"] == "fine" else {"amount": event["amount"]}


async def test_failing_render_hides_the_event_from_that_connection_only(
    sockets: Sockets, alice: User, bob: User, acme: Organization
) -> None:
    clumsy = await (await sockets.open(alice, application=routed(Clumsy))).synced()
    others = [await (await sockets.open(bob)).synced() for _ in range(5)]
    await publish_event(acme, "poison")
    await publish_event(acme, "fine")
    for socket in others:
        assert [event["type"] for event in await socket.next_events(2)] == ["poison", "fine"]
    assert [event["type"] for event in await clumsy.next_events(1)] == ["fine"]


@pytest.mark.parametrize("base", [OrgConsumer, CatchUpView])
@pytest.mark.parametrize("name", ["allow", "render"])
def test_async_hook_that_is_called_without_await_is_refused(base: type, name: str) -> None:
    async def hook(self: Any, *arguments: Any) -> bool:
        return False

    with pytest.raises(TypeError, match=f"{name} must not be async"):
        type("Mistaken", (base,), {name: hook})


def test_command_that_is_not_async_is_refused() -> None:
    with pytest.raises(TypeError, match="'leave' must be an async method"):

        @command("leave")  # type: ignore[type-var]
        def leave(self: Any, message: Frame) -> None: ...


async def test_burst_larger_than_the_tail_is_read_once_for_all(
    sockets: Sockets, alice: User, acme: Organization, statements: list[str]
) -> None:
    readers = [await (await sockets.open(alice)).synced() for _ in range(10)]

    def burst() -> None:
        with transaction.atomic():
            for number in range(40):
                publish(acme, "note", {"number": number, "filling": "x" * 60_000})

    statements.clear()
    await database.HANDSHAKE.run(burst)
    for reader in readers:
        assert [event["number"] for event in await reader.next_events(40)] == list(range(40))
    pages = [sql for sql in statements if "sized" in sql]
    assert len(pages) <= 40 * 60_000 // PAGE_CHARS + 3


def test_page_ends_where_it_would_be_too_large(acme: Organization) -> None:
    for _ in range(20):
        publish(acme, "note", {"filling": "x" * 60_000})
    start = Cursor(stream.position(acme).epoch, 0)
    seen = 0
    while True:
        page = stream.read(acme.pk, start)
        assert sum(len(event.text) for event in page.events) < PAGE_CHARS + 2 * 65_536
        assert [event.seq for event in page.events] == list(range(seen + 1, page.seq + 1))
        start, seen = Cursor(start.epoch, page.seq), page.seq
        if not page.has_more:
            break
    assert seen == 20


class Moody(MembershipAdapter):
    """An adapter that doesn't know one of the roles."""

    def access(self, membership: Any) -> Access:
        if membership.role == "unheard of":
            raise KeyError(membership.role)
        return super().access(membership)


class Strict(Moody):
    """One that fails for all, if it fails for one."""

    def accesses(self, pairs: Collection[tuple[Any, Any]]) -> dict[tuple[Any, Any], tuple[Access, Any]]:
        for membership in self.queryset().filter(user__in=[pair[1] for pair in pairs]):
            self.access(membership)
        return super().accesses(pairs)


@pytest.mark.parametrize("adapter", [Moody, Strict])
async def test_adapter_that_fails_for_one_member_still_ends_the_access_of_others(
    sockets: Sockets, alice: User, bob: User, carol: User, configure: Configure, adapter: type
) -> None:
    configure(ADAPTER=f"tests.delivery.test_hub.{adapter.__name__}", ACCESS_CHECK_SECONDS=0.2)
    first = await (await sockets.open(alice)).synced()
    leaver = await (await sockets.open(carol, "globex")).synced()
    stayer = await (await sockets.open(bob)).synced()

    def change_without_a_signal() -> None:
        Membership.objects.filter(user=alice).update(role="unheard of")
        Membership.objects.filter(user=carol)._raw_delete("default")  # type: ignore[attr-defined]

    await database.HANDSHAKE.run(change_without_a_signal)
    assert await leaver.close_code() == 4403
    assert await first.close_code() in {4403, 4503}
    assert await stayer.is_alive()


async def test_connection_that_was_let_in_under_another_epoch_is_reset(
    sockets: Sockets, alice: User, bob: User, acme: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = await (await sockets.open(bob)).synced()
    hub = get_hub()
    attach = hub.attach
    await publish_event(acme, "before")
    await watcher.next_events(1)

    def attach_late(connection: Any, organization_id: Any, position: Any) -> Any:
        feed = hub.feed(organization_id)
        assert feed is not None
        # As if the feed had noticed meanwhile that another database has been restored.
        feed.epoch = new_epoch()
        return attach(connection, organization_id, position)

    monkeypatch.setattr(hub, "attach", attach_late)
    late = await sockets.open(alice)
    types = [frame["type"] for frame in await late.until("synced")]
    assert types == ["welcome", "reset", "synced"]


async def test_stream_that_goes_back_resets_who_is_there_and_who_comes_back_after_it_has_grown(
    sockets: Sockets, alice: User, bob: User, acme: Organization, configure: Configure
) -> None:
    configure(POLL_SECONDS=0.1, IDLE_POLL_SECONDS=0.1)
    away, there = [await (await sockets.open(user)).synced() for user in (alice, bob)]
    for number in range(3):
        await publish_event(acme, number=number)
    cursor = (await away.next_events(3))[-1]["cursor"]
    await there.next_events(3)
    await away.disconnect()

    def restore_an_older_database() -> None:
        NotificationEvent.objects.filter(seq__gt=1).delete()
        Stream.objects.update(head=1)

    await database.HANDSHAKE.run(restore_an_older_database)
    assert (await there.until("reset"))[-1]["reason"] == "ahead"
    for number in range(3):
        await publish_event(acme, number=number)
    assert len(await there.next_events(3)) == 3
    again = await sockets.open(alice, query=f"since={cursor}")
    assert [frame["type"] for frame in await again.until("synced")] == ["welcome", "reset", "synced"]


async def test_locked_streams_of_other_organisations_delay_nobody(
    sockets: Sockets, alice: User, acme: Organization, make_org: MakeOrg, make_user: MakeUser
) -> None:
    """Who deletes organisations holds their streams until the commit."""
    hers = await (await sockets.open(alice)).synced()
    slugs = [f"locked-{number}" for number in range(6)]
    locked = await database.LIVE.run(lambda: [make_org(slug) for slug in slugs])
    for org in locked:
        member = await database.LIVE.run(make_user, f"member of {org.slug}", org)
        await (await sockets.open(member, org.slug)).synced()
    await settled()

    def lock() -> Any:
        return list(Stream.objects.select_for_update().filter(organization__in=locked))

    with open_transaction(lock):
        for org in locked:
            await publish_event(org)
        await eventually(lambda: any(feed._task for feed in get_hub()._feeds.values()))
        with Stopwatch() as watch:
            await publish_event(acme)
            await hers.next_events(1)
            await (await sockets.open(alice)).synced()
            watch.check(3.0, "an event and a handshake")


async def test_event_rung_for_while_the_only_reader_comes_back_arrives_at_once(
    sockets: Sockets,
    alice: User,
    acme: Organization,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configure(POLL_SECONDS=3600.0, IDLE_POLL_SECONDS=3600.0)  # nothing but the ring brings it
    monkeypatch.setattr(bell, "CANARY_SECONDS", LIMIT_SECONDS)
    first = await (await sockets.open(alice)).synced()
    await settled()
    await first.disconnect()
    await eventually(lambda: not list(get_hub().registry))
    enter = get_hub().service(AdmissionService).quotas.reserve
    heard: list[Any] = []
    get_hub().subscribe(bell.HintKind.EVENTS, heard.append)

    async def enter_after_an_event(quotas: Any) -> Any:
        await publish_event(acme)
        await eventually(lambda: heard)
        return await enter(quotas)

    monkeypatch.setattr(get_hub().service(AdmissionService).quotas, "reserve", enter_after_an_event)
    again = await sockets.open(alice)
    assert len(await again.next_events(1)) == 1


async def test_readers_at_many_places_share_a_bounded_memory(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    hers = await (await sockets.open(alice)).synced()
    for number in range(40):
        await publish_event(acme, number=number)
    await hers.next_events(40)
    feed = get_hub().feed(acme.pk)
    assert feed is not None
    for seq in range(40):
        behind = await sockets.open(alice, query=f"since={feed.cursor_at(seq)}")
        assert len(await behind.next_events(40 - seq)) == 40 - seq
        await behind.disconnect()
    assert len(feed._chunks) <= MAX_CHUNKS


async def come_and_leave(sockets: Sockets, user: User) -> None:
    """Leave a feed that nobody follows any more, and that lingers."""
    socket = await (await sockets.open(user)).synced()
    await socket.disconnect()
    await eventually(lambda: not list(get_hub().registry))


async def test_newcomer_after_another_epoch_has_begun_is_not_reset(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    await come_and_leave(sockets, alice)
    await database.LIVE.run(lambda: Stream.objects.update(epoch=new_epoch()))
    newcomer = await sockets.open(alice)
    assert [frame["type"] for frame in await newcomer.until("synced")] == ["welcome", "synced"]
    await publish_event(acme)
    await newcomer.next_events(1)


async def test_newcomer_after_events_were_pruned_that_nobody_here_followed_is_not_reset(
    sockets: Sockets, alice: User, acme: Organization
) -> None:
    await come_and_leave(sockets, alice)
    for _ in range(3):
        await publish_event(acme)
    head = (await database.LIVE.run(stream.position, acme)).head
    await database.LIVE.run(lambda: list(stream.prune(acme.pk, head)))
    newcomer = await sockets.open(alice)
    assert [frame["type"] for frame in await newcomer.until("synced")] == ["welcome", "synced"]
    await publish_event(acme)
    await newcomer.next_events(1)
    assert "reset" not in {frame["type"] for frame in newcomer.frames}


class Endless(OrgConsumer):
    """A host's hooks that never come back."""

    async def connected(self) -> None:
        if self.user.username == "bob":
            await asyncio.Event().wait()

    async def disconnected(self, code: int) -> None:
        await asyncio.Event().wait()


@pytest.mark.parametrize("name", ["alice", "bob"])
async def test_hook_that_never_returns_keeps_no_place(
    sockets: Sockets,
    alice: User,
    bob: User,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.setattr(consumers, "HOOK_SECONDS", 0.2)
    configure(CONNECTIONS_PER_USER=1)
    user = alice if name == "alice" else bob
    socket = await (await sockets.open(user, application=routed(Endless))).synced()
    await socket.send_input({"type": "websocket.disconnect", "code": 1000})
    await eventually(lambda: not list(get_hub().registry))
    await eventually(lambda: not socket.is_running)
    await sockets.open(user)
    with contextlib.suppress(TimeoutError):
        await socket.wait()


async def test_event_that_nobody_rang_for_is_found_within_the_idle_poll(
    sockets: Sockets,
    alice: User,
    acme: Organization,
    configure: Configure,
    instead: Instead,
) -> None:
    """However long the pause between two proofs of the layer."""
    polls: list[Any] = []

    def count(organization_ids: Any) -> Any:
        polls.append(heads := stream.heads(organization_ids))
        return heads

    instead(database.LIVE, stream.heads, count)
    configure(POLL_SECONDS=60.0, IDLE_POLL_SECONDS=1.0)
    socket = await (await sockets.open(alice)).synced()
    await settled()
    await eventually(lambda: polls)  # of the beginning
    await database.LIVE.run(
        NotificationEvent.objects.create, organization=acme, type="note", payload={"n": 1}
    )
    with Stopwatch() as watch:
        assert (await socket.frame())["n"] == 1
        watch.check(5.0, "the event is found")
