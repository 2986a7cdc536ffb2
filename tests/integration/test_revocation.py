"""Real uvicorn with two workers: what ends somebody's access anywhere closes their sockets everywhere."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.clients import Browser, Socket, log_in
from tests.servers import Site
from tests.stopwatch import Stopwatch

PROMISED = 2.0
SOCKETS = 10  # spread over two workers by the kernel: all on one has odds of 1 : 2^9
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(workers=2) as site:
        yield site


@pytest.fixture(autouse=True)
def _seeded(site: Site) -> None:
    site.shell.run("from django.core.management import call_command; call_command('seed_demo')")


async def run(site: Site, program: str) -> None:
    """Run a line of Python in another process of the site, with its models at hand."""
    models = (
        "from django.contrib.auth.models import User; from tracker.models import Membership, Organization"
    )
    await asyncio.to_thread(site.shell.run, f"{models}; {program}")


async def open_sockets(stack: AsyncExitStack, browser: Browser, org: str = "acme") -> list[Socket]:
    sockets = [await stack.enter_async_context(browser.socket(org)) for _ in range(SOCKETS)]
    for socket in sockets:
        await socket.synced()
    return sockets


async def codes(sockets: list[Socket]) -> set[int]:
    """The codes with which all these sockets are closed, within what is promised."""
    with Stopwatch() as watch:
        found = {await socket.closed() for socket in sockets}
        watch.check(PROMISED, "all are closed")
    return found


async def stay_open(site: Site, sockets: list[Socket], org: str = "acme") -> bool:
    """Whether all these sockets get what is published now."""
    await asyncio.to_thread(site.shell.publish, {"after": True}, org=org)
    for socket in sockets:
        await socket.until(lambda one: one.events and one.events[-1].get("after"))
    return True


async def test_removed_member_is_closed_at_both_workers_and_refused_with_an_old_cursor(site: Site) -> None:
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob, AsyncExitStack() as stack:
        hers, his = await open_sockets(stack, alice), await open_sockets(stack, bob)
        await run(site, "Membership.objects.filter(user__username='alice').delete()")
        assert await codes(hers) == {4403}
        assert await stay_open(site, his)
        assert not any(socket.events for socket in hers)
        answer = await alice.http.get("/orgs/acme/notifications/", params={"since": hers[0].cursor})
        assert answer.status_code == 403


async def test_logout_closes_that_browser_s_sockets_at_both_workers(site: Site) -> None:
    async with (
        log_in(site, "bob") as leaving,
        log_in(site, "bob") as staying,
        AsyncExitStack() as stack,
    ):
        closing, open_ones = await open_sockets(stack, leaving), await open_sockets(stack, staying)
        await leaving.http.get("/orgs/acme/")
        await leaving.post("/accounts/logout/")
        assert await codes(closing) == {4401}
        assert await stay_open(site, open_ones)


async def test_changed_password_closes_all_sessions_at_both_workers(site: Site) -> None:
    async with log_in(site, "dave") as one, log_in(site, "dave") as other, AsyncExitStack() as stack:
        sockets = [*await open_sockets(stack, one), *await open_sockets(stack, other, "globex")]
        await run(site, "user = User.objects.get(username='dave'); user.set_password('new'); user.save()")
        assert await codes(sockets) == {4401}
        await run(site, "user = User.objects.get(username='dave'); user.set_password('demo'); user.save()")


async def test_disabled_user_is_closed_at_both_workers(site: Site) -> None:
    async with log_in(site, "carol") as carol, AsyncExitStack() as stack:
        sockets = await open_sockets(stack, carol, "globex")
        await run(site, "user = User.objects.get(username='carol'); user.is_active = False; user.save()")
        assert await codes(sockets) == {4401}
        await run(site, "user = User.objects.get(username='carol'); user.is_active = True; user.save()")


async def test_revoke_closes_who_was_removed_without_a_signal(site: Site) -> None:
    program = (
        "from orgrealtime.access import revoke; user = User.objects.get(username='bob');"
        "acme = Organization.objects.get(slug='acme');"
        "Membership.objects.filter(user=user)._raw_delete('default'); revoke(user, acme)"
    )
    async with log_in(site, "bob") as bob, AsyncExitStack() as stack:
        sockets = await open_sockets(stack, bob)
        await run(site, program)
        assert await codes(sockets) == {4403}


@pytest.mark.parametrize("now", ["another user's", pytest.param("emptied", marks=pytest.mark.slow)])
async def test_session_that_changes_its_user_closes_its_sockets_at_both_workers(site: Site, now: str) -> None:
    to_dave = (
        "session['_auth_user_id'] = str(dave.pk); session['_auth_user_hash'] = dave.get_session_auth_hash();"
    )
    async with log_in(site, "bob") as bob, log_in(site, "bob") as other, AsyncExitStack() as stack:
        his, others = await open_sockets(stack, bob), await open_sockets(stack, other)
        await run(
            site,
            "from django.contrib.sessions.backends.db import SessionStore;"
            "from orgrealtime.access import revoke;"
            f"session = SessionStore({bob.http.cookies['sessionid']!r}); session.load();"
            "bob, dave = (User.objects.get(username=name) for name in ('bob', 'dave'));"
            f"{to_dave if now != 'emptied' else 'session.clear();'} session.save();"
            "revoke(bob, Organization.objects.get(slug='acme'))",
        )
        assert await codes(his) == {4401}
        assert await stay_open(site, others)
        answer = await bob.http.get("/orgs/acme/notifications/")
        assert answer.status_code == (401 if now == "emptied" else 200)


async def test_deleted_organisation_closes_its_members_at_both_workers(site: Site) -> None:
    async with log_in(site, "dave") as dave, AsyncExitStack() as stack:
        sockets, elsewhere = await open_sockets(stack, dave, "globex"), await open_sockets(stack, dave)
        await run(site, "Organization.objects.get(slug='globex').delete()")
        assert await codes(sockets) == {4403}
        assert await stay_open(site, elsewhere)


@pytest.mark.slow
async def test_removed_member_gets_nothing_of_what_was_published_while_the_workers_were_stopped(
    site: Site,
) -> None:
    program = (
        "Membership.objects.filter(user__username='alice').delete();"
        "from orgrealtime import publish; acme = Organization.objects.get(slug='acme');"
        "[publish(acme, 'note', {'after': True}) for _ in range(50)]"
    )
    async with log_in(site, "alice") as alice, log_in(site, "bob") as bob, AsyncExitStack() as stack:
        hers, his = await open_sockets(stack, alice), await open_sockets(stack, bob)
        os.killpg(site.pid, signal.SIGSTOP)
        try:
            await run(site, program)
            await asyncio.sleep(2)  # more than a second, after which all are checked
        finally:
            os.killpg(site.pid, signal.SIGCONT)
        assert {await socket.closed() for socket in hers} == {4403}
        assert not any(socket.events for socket in hers)
        assert await stay_open(site, his)


@pytest.fixture
def deaf_site() -> Iterator[Site]:
    """Two workers that nobody tells anything, and that check often."""
    environ = {"REDIS_URL": "", "DJANGO_SETTINGS_MODULE": "quick_checks", "PYTHONPATH": str(FOLDER)}
    with Site(workers=2, environ=environ) as site:
        yield site


@pytest.mark.slow
async def test_removed_member_is_closed_by_the_regular_check_where_nothing_rings(deaf_site: Site) -> None:
    async with log_in(deaf_site, "alice") as alice, AsyncExitStack() as stack:
        sockets = await open_sockets(stack, alice)
        await run(deaf_site, "Membership.objects.filter(user__username='alice').delete()")
        assert await codes(sockets) == {4403}
