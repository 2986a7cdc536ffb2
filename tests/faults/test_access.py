"""Access is checked though workers stand still or the database drops connections (docs/explanation/faults.md)."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from tests.faults.client import Client
from tests.faults.load import Load
from tests.faults.processes import dead, frozen
from tests.faults.rig import Rig
from tests.faults.stores import END_CONNECTIONS

pytestmark = [pytest.mark.faults, pytest.mark.asyncio(loop_scope="session")]

quick = pytest.mark.faults_quick
STANDSTILL_SECONDS = 5


@pytest.mark.parametrize(
    ("case", "how", "hints"),
    [
        pytest.param("F54", "stopped", "come late", id="stopped"),
        pytest.param("F54", "stopped", "are lost", id="stopped-without-redis", marks=quick),
        pytest.param("F55", "blocked", "are lost", id="blocked-without-redis"),
    ],
)
async def test_f54_f55_members_are_removed_while_the_workers_stand_still(
    rig: Rig, case: str, how: str, hints: str
) -> None:
    """A member of each organisation is removed, then events are published, then the workers go on."""
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(
            rig.load(
                case,
                f"workers {how} for {STANDSTILL_SECONDS} s, 10 removals of which hints {hints}",
                "nothing published after the removal",
                revocation_bound=60.0,  # what was published before the removal may come when the workers go on
            )
        )
        removed = [client for client in load.clients if client.user.endswith("user-3")]
        await stack.enter_async_context(rig.host.membership_given_back(*removed))
        remove = await rig.host.ready_to_remove(removed)
        if hints == "are lost":
            await stack.enter_async_context(dead(rig.redis))
        workers = rig.processes.workers()
        async with frozen(*workers) if how == "stopped" else rig.processes.blocked():
            begin = time.monotonic()
            for client, moment in zip(removed, await remove(), strict=True):
                load.revoke(client, moment)
            await load.until(
                lambda: all(has_missed_some(load, each) for each in removed), 20, "events for them"
            )
            await asyncio.sleep(max(0, begin + STANDSTILL_SECONDS - time.monotonic()))
            assert not any(client.is_stopped for client in removed)
        resumed = time.monotonic()
        await load.until(lambda: all(client.is_stopped for client in removed), 5, "the removed are closed")
        longest = max(client.stopped_at for client in removed) - resumed
        load.measured(f"still for {resumed - begin:.1f} s, closed {longest:.1f} s after the workers went on")
        load.watch.check(2, "the removed are closed", took=longest)
        for client in removed:
            assert client.codes == [4403]
            late = [each for each in client.log.receipts if (each.sent or 0) > client.log.revoked_at]
            assert not late, f"{len(late)} events published after the removal"
        await load.caught_up(within=10)
        assert sum(load.codes().values()) == len(removed), load.codes()


def has_missed_some(load: Load, client: Client) -> bool:
    """Events have been published since its removal that it would have got before."""
    return len(load.ledger.due(client.log, since=client.log.revoked_at)) >= 2


async def test_f56_access_is_checked_while_database_connections_are_killed(rig: Rig) -> None:
    async with rig.load("F56", "as F17, access checked 30 times a second", "no socket closed, <=5 s") as load:
        ids = {org: rig.database.organization_id(org) for org in {client.org for client in load.clients}}
        place = len(rig.log())
        async with rig.host.access_questioned([(each.user_id, ids[each.org]) for each in load.clients]):
            for _ in range(20):
                rig.database.sql(END_CONNECTIONS)
                await asyncio.sleep(1)
        await load.caught_up(within=5)
        load.measured(f"{len(load.ledger.failed)} errors to callers")
        assert not load.codes(), load.codes()
        assert "access can't be checked" not in rig.log_since(place)
